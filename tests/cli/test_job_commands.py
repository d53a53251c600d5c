"""`pgq-sync enqueue` and `pgq-sync jobs`."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import pytest

from pgq_sync import JobRecord, NewJob, PgQueuer
from tests.cli.console import Console


def record_of(pgq: PgQueuer, printed: str) -> JobRecord:
    """The job whose id was printed, alone on its line."""
    assert printed == f"{int(printed)}\n"
    record = pgq.jobs.get(int(printed))
    assert record is not None
    return record


def listed(console: Console, *options: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(console.output("jobs", "--json", *options))
    return found


def test_a_job_is_enqueued_and_its_id_printed(console: Console, pgq: PgQueuer) -> None:
    record = record_of(pgq, console.output("enqueue", "fetch"))
    assert (record.entrypoint, record.payload, record.queue, record.priority) == ("fetch", None, "default", 0)
    assert (record.status, record.headers, record.dedupe_key) == ("queued", None, None)
    assert record.execute_after == record.created_at


def test_every_option_of_a_job_can_be_given(console: Console, pgq: PgQueuer) -> None:
    options = ("--priority", "7", "--delay", "10m", "--queue", "mail", "--header", "trace=1", "--header", "query=a=b&c=")
    record = record_of(pgq, console.output("enqueue", "fetch", "größe 😀", *options, "--dedupe-key", "k"))

    assert (record.payload, record.priority, record.queue) == ("größe 😀".encode(), 7, "mail")
    assert record.execute_after - record.created_at == timedelta(minutes=10)
    assert record.headers == {"trace": "1", "query": "a=b&c="}
    assert record.dedupe_key == "k"


def test_a_key_may_be_free_again_once_the_job_has_started(console: Console, pgq: PgQueuer) -> None:
    @pgq.entrypoint("fetch")
    def fetch(job: object) -> None:
        console.output("enqueue", "other", "--dedupe-key", "k")

    console.output("enqueue", "fetch", "--dedupe-key", "k", "--dedupe-until", "started")
    assert pgq.drain().counts == {"succeeded": 1}


@pytest.mark.parametrize("payload", [b"", b"from a pipe\n", bytes(range(256))])
def test_a_payload_may_come_from_standard_input(console: Console, pgq: PgQueuer, payload: bytes) -> None:
    assert record_of(pgq, console.output("enqueue", "fetch", "-", stdin=payload)).payload == payload


def test_a_payload_may_look_like_an_option(console: Console, pgq: PgQueuer) -> None:
    assert record_of(pgq, console.output("enqueue", "fetch", "--", "--priority")).payload == b"--priority"


def test_a_duplicate_is_refused_in_one_line(console: Console, pgq: PgQueuer) -> None:
    first = record_of(pgq, console.output("enqueue", "fetch", "--dedupe-key", "k"))
    complaint = console.refused("enqueue", "fetch", "--dedupe-key", "k", code=1)
    assert complaint == f"dedupe_key 'k' is taken by job {first.id}: pass --on-conflict skip, existing or replace"
    assert pgq.jobs.count() == {("fetch", "queued"): 1}


def test_a_conflict_ends_as_asked_for(console: Console, pgq: PgQueuer) -> None:
    keyed = ("enqueue", "fetch", "--dedupe-key", "k")
    first = console.output(*keyed)

    assert console.output(*keyed, "--on-conflict", "skip") == "not enqueued: its dedupe key is taken\n"
    assert console.output(*keyed, "--on-conflict", "existing", "--priority", "1") == first
    assert record_of(pgq, first).priority == 0
    assert console.output(*keyed, "--on-conflict", "replace", "--priority", "2") == first
    assert record_of(pgq, first).priority == 2


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("",), "entrypoint='' has 0 characters: 1 to 200 are accepted"),
        ((201 * "x",), "has 201 characters: 1 to 200 are accepted"),
        (("fetch", "--queue", ""), "queue='' has 0 characters"),
        (("fetch", "--priority", "40000"), "priority=40000 is out of range: -32768 to 32767"),
        (("fetch", "--dedupe-key", ""), "dedupe_key='' has 0 characters"),
    ],
)
def test_what_cannot_be_enqueued_is_refused_in_one_line(
    console: Console, pgq: PgQueuer, arguments: tuple[str, ...], complaint: str
) -> None:
    assert complaint in console.refused("enqueue", *arguments, code=2)
    assert pgq.jobs.count() == {}


def test_a_payload_that_is_too_large_is_refused_in_one_line(console: Console) -> None:
    done = console.run("enqueue", "fetch", "-", stdin=b"12345", PGQ_MAX_PAYLOAD="4")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "the payload has 5 bytes, the limit is 4" in done.stderr


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--delay", "soon"), "'soon' is not a duration"),
        (("--delay", "99999999999d"), "99999999999d"),
        (("--header", "trace"), "'trace' is no KEY=VALUE"),
        (("--priority", "high"), "'high' is not a valid integer"),
        (("--on-conflict", "ignore"), "'ignore' is not one of"),
        (("--dedupe-until", "never"), "'never' is not one of"),
    ],
)
def test_an_option_that_cannot_be_used_is_refused(console: Console, options: tuple[str, ...], complaint: str) -> None:
    done = console.run("enqueue", "fetch", *options)
    assert done.returncode == 2
    assert complaint in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [("enqueue", "fetch"), ("jobs",)])
def test_on_an_empty_database_it_names_the_command_to_run(empty_console: Console, command: tuple[str, ...]) -> None:
    assert "run `pgq-sync install`" in empty_console.refused(*command, code=1)


def test_jobs_are_shown_as_a_table_the_latest_first(console: Console, pgq: PgQueuer) -> None:
    @pgq.entrypoint("fails")
    def fails(job: object) -> None:
        raise ValueError("no such customer\nsecond line")

    failed, waiting = pgq.enqueue("fails"), pgq.enqueue("fetch", queue="mail")
    pgq.drain()

    lines = console.output("jobs").splitlines()
    assert lines[0].split() == ["id", "entrypoint", "queue", "status", "attempts", "created", "error"]
    assert [line.split()[:5] for line in lines[1:]] == [
        [str(waiting), "fetch", "mail", "queued", "0"],
        [str(failed), "fails", "default", "failed", "1"],
    ]
    assert lines[2].endswith("no such customer")
    assert len({line.index(word) for line, word in zip(lines, ("status", "queued", "failed"), strict=True)}) == 1


def test_without_jobs_the_table_is_empty(console: Console) -> None:
    assert console.output("jobs").split() == ["id", "entrypoint", "queue", "status", "attempts", "created", "error"]
    assert listed(console) == []


def test_jobs_are_printed_as_json_with_all_that_is_known(console: Console, pgq: PgQueuer) -> None:
    pgq.entrypoint("fetch", store_result=True)(lambda job: {"size": 3})
    text = pgq.enqueue("fetch", "größe", priority=3, headers={"trace": "1"}, dedupe_key="k")
    binary = pgq.enqueue("other", b"\xff\x00a")
    pgq.drain()

    other, fetched = listed(console)
    assert (other["id"], other["status"], other["payload"], other["result"]) == (binary, "queued", "\\xff\x00a", None)
    assert (fetched["id"], fetched["status"], fetched["payload"], fetched["result"]) == (text, "succeeded", "größe", {"size": 3})
    assert (fetched["priority"], fetched["headers"], fetched["dedupe_key"]) == (3, {"trace": "1"}, "k")
    record = pgq.jobs.get(text)
    assert record is not None
    assert record.finished_at is not None
    assert datetime.fromisoformat(fetched["finished_at"]) == record.finished_at
    assert fetched["worker_id"] == str(record.worker_id)


def test_jobs_can_be_chosen(console: Console, pgq: PgQueuer) -> None:
    pgq.entrypoint("fetch")(lambda job: None)
    fetched, waiting = pgq.enqueue("fetch"), pgq.enqueue("other", queue="mail")
    pgq.drain()

    for options, ids in (
        (("--status", "succeeded"), [fetched]),
        (("--status", "held"), []),
        (("--entrypoint", "other"), [waiting]),
        (("--queue", "mail"), [waiting]),
        (("--queue", "mail", "--status", "succeeded"), []),
        (("--limit", "1"), [waiting]),
    ):
        assert [job["id"] for job in listed(console, *options)] == ids


def test_no_more_jobs_are_listed_than_asked_for(console: Console, pgq: PgQueuer) -> None:
    pgq.enqueue_many(NewJob(entrypoint="fetch") for _ in range(30))
    assert len(listed(console)) == 25
    assert len(listed(console, "--limit", "28")) == 28
    assert console.run("jobs", "--limit", "0").returncode == 2
    assert console.run("jobs", "--status", "lost").returncode == 2
