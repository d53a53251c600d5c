"""`pgq-sync wait` and `pgq-sync job`."""

from __future__ import annotations

import json
import threading

import pytest

from pgq_sync import Context, Job, PgQueuer
from tests.cli.console import Console
from tests.storage.support import ended, hand
from tests.waiting import PATIENCE, wait_until


def test_a_wait_ends_with_the_job(console: Console, pgq: PgQueuer) -> None:
    job_id = pgq.enqueue("double")
    with console.start("wait", str(job_id)) as waiting:
        wait_until(lambda: watched(pgq))
        with hand(pgq.store, "double") as one:
            one.settle(one.claim(), result="[42]")
        assert waiting.stdout.wait_for("succeeded: [42]")
        assert waiting.ended() == 0


def watched(pgq: PgQueuer) -> bool:
    with pgq.backend.connections.session() as session:
        return bool(session.run("select 1 from pgq_watch"))


def test_a_job_that_returned_nothing_has_succeeded(console: Console, pgq: PgQueuer) -> None:
    assert console.output("wait", str(ended(pgq, "succeeded"))) == "succeeded\n"


def test_a_job_that_has_not_succeeded_is_an_error(console: Console, pgq: PgQueuer) -> None:
    job_id = pgq.enqueue("work")
    with hand(pgq.store, "work") as one:
        one.settle(one.claim(), "failed", error='{"attempt": 1, "type": "ValueError", "message": "boom"}')

    words = f"job {job_id} of work ended as failed at attempt 1: ValueError: boom"
    assert console.refused("wait", str(job_id), code=1) == words
    done = console.run("wait", str(job_id), "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["message"] == "boom"
    assert words in done.stderr


def test_a_wait_in_json(console: Console, pgq: PgQueuer) -> None:
    job_id = ended(pgq, "succeeded")
    found = json.loads(console.output("wait", str(job_id), "--json"))
    assert found == {
        "job_id": job_id,
        "entrypoint": "work",
        "status": "succeeded",
        "attempts": 1,
        "result": None,
        "error": None,
    }


def test_a_wait_ends_at_its_timeout(console: Console, pgq: PgQueuer) -> None:
    job_id = pgq.enqueue("work")
    assert console.refused("wait", str(job_id), "--timeout", "200ms", code=1) == f"job {job_id} has not ended within 0.2 s"


@pytest.mark.parametrize("command", ["wait", "job"])
def test_a_job_that_is_not_there(console: Console, pgq: PgQueuer, command: str) -> None:
    assert console.refused(command, "77", code=1).startswith("there is no job 77: ")
    for word in ("x", "0", "-1", "1.5"):
        done = console.run(command, word)
        assert done.returncode == 2
        assert "is no job id" in done.stderr


def test_a_database_that_is_away_is_told_at_once(console: Console) -> None:
    done = console.run("wait", "1", "--dsn", "postgresql://nobody@127.0.0.1:1/none")
    assert done.returncode == 1
    assert done.stderr.startswith("pgq-sync: ")


def test_a_job_is_shown_with_its_progress(console: Console, pgq: PgQueuer) -> None:
    started, go_on = threading.Event(), threading.Event()

    @pgq.entrypoint("work")
    def work(job: Job, context: Context) -> None:
        context.progress(0.5, "half way")
        started.set()
        assert go_on.wait(PATIENCE)

    job_id = pgq.enqueue("work", "some text")
    with pgq.worker():
        assert started.wait(PATIENCE)
        wait_until(lambda: (found := pgq.jobs.get(job_id)) is not None and found.progress)
        lines = dict(line.split(maxsplit=1) for line in console.output("job", str(job_id)).splitlines())
        found = json.loads(console.output("job", str(job_id), "--json"))
        go_on.set()
    assert lines["progress"] == "50% half way"
    assert (lines["id"], lines["status"], lines["payload"]) == (str(job_id), "running", "some text")
    assert (found["progress"]["fraction"], found["progress"]["note"]) == (0.5, "half way")
    assert "progress" not in console.output("job", str(job_id))
