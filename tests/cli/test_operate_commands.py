"""`pgq-sync held`, `requeue`, `cancel`, `delete`, `purge`: what they did, in words and in JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pgq_sync import NewJob, PgQueuer
from tests.cli.console import Console
from tests.storage.support import ended, hand, record


def _json(console: Console, *arguments: str, code: int = 0) -> Any:
    done = console.run(*arguments, "--json")
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def _failed(pgq: PgQueuer, message: str, entrypoint: str = "fails") -> int:
    """A held job whose handler has failed with `message`."""
    job_id = pgq.enqueue(entrypoint)
    with hand(pgq.store, entrypoint) as one:
        one.settle(one.claim(), "held", error=json.dumps({"type": "ValueError", "message": message}))
    return job_id


def test_held_jobs_are_listed_with_their_last_error(console: Console, pgq: PgQueuer) -> None:
    first, second = _failed(pgq, "no such customer\nsecond line"), _failed(pgq, "out of paper", "prints")
    pgq.enqueue("fails")

    lines = [line.split(maxsplit=6) for line in console.output("held").splitlines()]
    assert lines[0] == ["id", "entrypoint", "queue", "attempts", "age", "error"]
    assert [line[:4] for line in lines[1:]] == [[str(second), "prints", "default", "1"], [str(first), "fails", "default", "1"]]
    assert [(line[5], line[6]) for line in lines[1:]] == [("s", "out of paper"), ("s", "no such customer")]
    assert [each["id"] for each in _json(console, "held")] == [second, first]
    assert [each["id"] for each in _json(console, "held", "--entrypoint", "fails")] == [first]
    assert len(console.output("held", "--limit", "1").splitlines()) == 2


def test_a_long_table_is_whole_in_a_pipe_and_fits_into_a_terminal(console: Console, pgq: PgQueuer) -> None:
    entrypoint = "invoices.tasks." + "x" * 60
    job_id = _failed(pgq, "no such customer " + "y" * 200, entrypoint)

    whole = console.output("held").splitlines()[1]
    assert entrypoint in whole
    assert "y" * 200 in whole
    for width in (80, 60):
        lines = console.on_terminal("held", width=width)
        assert all(len(line) <= width for line in lines)
        assert lines[1].startswith(str(job_id))
        assert "invoices.tas" in lines[1]
        assert lines[0].index("error") == lines[1].index("no such c")


def test_a_name_cannot_give_the_terminal_orders(console: Console, pgq: PgQueuer) -> None:
    _failed(pgq, "\x1b[2Jgone", "a\x1b[31mred\nb")
    (line,) = console.output("held").splitlines()[1:]
    assert "a\\x1b[31mred\\nb" in line
    assert "\\x1b[2Jgone" in line


def test_requeue_tells_what_became_of_each_id(console: Console, pgq: PgQueuer) -> None:
    held, failed, done = ended(pgq, "held"), ended(pgq, "failed"), ended(pgq, "succeeded")
    keyed = ended(pgq, "failed", dedupe_key="k")
    waits = pgq.enqueue("other", dedupe_key="k")

    first = console.run("requeue", *map(str, (done, held, keyed, failed, waits, 77)))
    anew = record(pgq, failed).requeued_as
    assert first.returncode == 1
    assert first.stdout.splitlines() == [
        f"requeued {held}",
        f"requeued {failed} as {anew}",
        f"left alone: {keyed}: its dedupe key is taken by another unfinished job",
        f"left alone: {done}: it has succeeded",
        f"left alone: {waits}: it is queued",
        "left alone: 77: there is no such job",
    ]
    second = console.run("requeue", str(failed))
    assert (second.returncode, second.stdout) == (1, f"left alone: {failed}, as {anew}: was requeued before\n")
    assert _json(console, "requeue", str(failed), str(keyed), code=1) == {
        "requeued": {},
        "already": {str(failed): anew},
        "conflicts": [keyed],
        "unknown": [],
    }


def test_requeue_succeeds_where_all_went_back(console: Console, pgq: PgQueuer) -> None:
    held, failed = ended(pgq, "held"), ended(pgq, "failed")
    assert console.output("requeue", str(held), "--keep-attempts") == f"requeued {held}\n"
    assert record(pgq, held).attempts == 1
    result = _json(console, "requeue", str(failed))
    assert record(pgq, result["requeued"][str(failed)]).attempts == 0


def test_ids_may_come_from_standard_input(console: Console, pgq: PgQueuer) -> None:
    ids = pgq.enqueue_many(NewJob(entrypoint="work") for _ in range(4))

    assert console.output("cancel", "-", stdin=f"{ids[0]} {ids[1]}\n\n{ids[0]}\n") == f"cancelled {ids[0]}\ncancelled {ids[1]}\n"
    assert console.output("cancel", str(ids[3]), "-", stdin=str(ids[2])) == f"cancelled {ids[3]}\ncancelled {ids[2]}\n"
    assert console.output("cancel", "-") == ""


@pytest.mark.parametrize("command", ["cancel", "delete", "requeue"])
@pytest.mark.parametrize(
    ("arguments", "stdin", "complaint"),
    [
        ((), "", "Missing argument 'ID...'"),
        (("seven",), "", "'seven' is no job id: whole numbers from 1 up are accepted"),
        (("-1",), "", "'-1' is no job id: whole numbers from 1 up are accepted"),
        (("7", "-12"), "", "'-12' is no job id"),
        (("0",), "", "'0' is no job id"),
        (("9" * 30,), "", "is no job id"),
        (("-",), "7 x", "'x' is no job id"),
    ],
)
def test_what_is_no_id_is_refused(offline: Console, command: str, arguments: tuple[str, ...], stdin: str, complaint: str) -> None:
    done = offline.run(command, *arguments, stdin=stdin)
    assert done.returncode == 2
    assert complaint in done.stderr.splitlines()[-1]


def test_cancel_tells_who_was_ended_and_who_was_asked(console: Console, pgq: PgQueuer) -> None:
    failed = ended(pgq, "failed", "third")
    running, queued = pgq.enqueue("work"), pgq.enqueue("other")
    with hand(pgq.store, "work") as one:
        one.claim()
        done = console.run("cancel", str(running), "77", str(queued), str(failed))

        assert done.returncode == 1
        assert done.stdout.splitlines() == [
            f"cancelled {queued}",
            f"asked {running}, which runs, to end",
            "left alone: 77: there is no such job",
            f"left alone: {failed}: it has failed",
        ]
        assert _json(console, "cancel", str(running)) == {"ended": [], "asked": [running], "unknown": []}
        assert pgq.store.cancel_requests([running]) == {running}


def test_delete_leaves_running_jobs_alone_and_names_cancel(console: Console, pgq: PgQueuer) -> None:
    running, queued, done = pgq.enqueue("work"), pgq.enqueue("other"), ended(pgq, "succeeded", "done")
    with hand(pgq.store, "work") as one:
        one.claim()
        first = console.run("delete", str(running), str(queued), "77", str(done))

        assert first.returncode == 1
        assert first.stdout.splitlines() == [
            f"deleted {queued}",
            f"deleted {done}",
            f"left alone: {running}: it runs, `pgq-sync cancel` asks it to end",
            "left alone: 77: there is no such job",
        ]
        assert _json(console, "delete", str(queued)) == {"deleted": [queued], "refused": [], "unknown": []}
    assert console.run("delete", str(queued)).returncode == 1


def test_purge_asks_and_says_how_many(console: Console, pgq: PgQueuer) -> None:
    pgq.enqueue_many(NewJob(entrypoint=name) for name in ("a", "a", "b"))

    refused = console.run("purge", stdin="n\n")
    assert refused.returncode != 0
    assert "Delete 3 queued jobs?" in refused.stderr
    assert console.run("purge").returncode != 0
    assert pgq.jobs.count() == {("a", "queued"): 2, ("b", "queued"): 1}

    agreed = console.run("purge", "--entrypoint", "b", stdin="y\n")
    assert "Delete 1 queued job of b?" in agreed.stderr
    assert (agreed.returncode, agreed.stdout) == (0, "deleted 1 queued job of b\n")
    assert console.output("purge", "--yes") == "deleted 2 queued jobs\n"
    assert console.output("purge") == "deleted 0 queued jobs\n"
    assert pgq.jobs.count() == {("a", "deleted"): 2, ("b", "deleted"): 1}


def test_purge_can_be_narrowed_and_planned(console: Console, pgq: PgQueuer) -> None:
    failed = ended(pgq, "failed")
    pgq.enqueue("work")

    old = ("--status", "failed", "--older-than", "2h")
    assert console.output("purge", *old, "--plan") == "would delete 0 failed jobs, finished at least 2 h ago\n"
    assert console.output("purge", *old) == "deleted 0 failed jobs, finished at least 2 h ago\n"
    assert _json(console, "purge", "--status", "failed", "--plan") == {"would_delete": 1}
    assert record(pgq, failed).status == "failed"
    assert _json(console, "purge", "--status", "failed", "--yes") == {"deleted": 1}
    assert pgq.jobs.get(failed) is None
    assert pgq.jobs.count() == {("work", "queued"): 1}


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--status", "running"), "'running' is not one of"),
        (("--older-than", "soon"), "'soon' is not a duration"),
        (("--older-than", "99999d"), "from 0 to 36,500 days are accepted"),
    ],
)
def test_what_cannot_be_purged_is_refused(console: Console, options: tuple[str, ...], complaint: str) -> None:
    done = console.run("purge", "--yes", *options)
    assert done.returncode == 2
    assert complaint in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "command",
    ["held", "requeue 1", "cancel 1", "delete 1", "purge", "workers", "limits", "pause --queue mail", "resume -e work"],
)
def test_on_an_empty_database_it_names_the_command_to_run(empty_console: Console, command: str) -> None:
    assert "run `pgq-sync install`" in empty_console.refused(*command.split(), code=1)
