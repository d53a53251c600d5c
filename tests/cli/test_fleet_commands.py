"""`pgq-sync workers`, `limits`, `pause`, `resume`."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from pgq_sync import PgQueuer
from pgq_sync.models import DeclaredLimit
from tests.cli.console import Console
from tests.storage.support import query, worker


def _json(console: Console, *arguments: str) -> Any:
    return json.loads(console.output(*arguments, "--json"))


def test_workers_are_listed(console: Console, pgq: PgQueuer, dsn: str) -> None:
    first, second = worker("work", "print"), worker("work", queues=("mail", "post"))
    pgq.store.register(first)
    pgq.store.register(second)
    query(dsn, f"update pgq_worker set beat_at = now() - interval '150 s' where worker_id = '{second.worker_id}'")

    lines = [re.split("  +", line) for line in console.output("workers").splitlines()]
    assert lines[0] == ["name", "state", "slots", "last beat", "queues", "entrypoints"]
    assert lines[1][:3] == ["tester", "running", "10"]
    assert lines[1][4:] == ["all", "print, work"]
    assert lines[2] == ["tester", "running", "10", "2 min ago", "mail, post", "work"]
    found = _json(console, "workers")
    assert [each["worker_id"] for each in found] == [str(first.worker_id), str(second.worker_id)]
    assert (found[0]["queues"], found[1]["queues"]) == (None, ["mail", "post"])
    assert found[0]["liveness_limit"] == 15


def test_a_worker_of_many_entrypoints_fits_into_a_terminal(console: Console, pgq: PgQueuer) -> None:
    pgq.store.register(worker(*(f"entrypoint_{number}" for number in range(50))))

    assert "entrypoint_49" in console.output("workers")
    lines = console.on_terminal("workers", width=80)
    assert all(len(line) <= 80 for line in lines)
    assert lines[1].split()[:3] == ["tester", "running", "10"]
    assert lines[1].endswith("..")


def test_without_workers_the_table_is_empty(console: Console) -> None:
    assert len(console.output("workers").splitlines()) == 1
    assert _json(console, "workers") == []


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (("--entrypoint", "fetch"), "fetch"),
        (("--queue", "mail"), "queue mail"),
        (("-e", "fetch", "-q", "mail"), "fetch in queue mail"),
    ],
)
def test_what_is_paused_is_told_and_resumed(console: Console, pgq: PgQueuer, options: tuple[str, ...], name: str) -> None:
    assert console.output("pause", *options) == f"paused {name}\n"
    assert console.output("pause", *options) == f"{name} was paused already\n"
    assert [each.paused_at is not None for each in pgq.limits.list()] == [True]
    assert console.output("resume", *options) == f"resumed {name}\n"
    assert console.output("resume", *options) == f"{name} was not paused\n"
    assert pgq.limits.list() == []
    assert _json(console, "pause", *options)["changed"] is True
    assert _json(console, "pause", *options)["changed"] is False


def test_resume_tells_which_pauses_are_left(console: Console, pgq: PgQueuer) -> None:
    for target in ({"entrypoint": "fetch"}, {"queue": "mail"}, {"queue": "post"}, {"entrypoint": "fetch", "queue": "mail"}):
        pgq.limits.pause(**target)

    assert console.output("resume", "-e", "fetch", "-q", "mail").splitlines() == [
        "resumed fetch in queue mail",
        "but queue mail is paused still",
        "but fetch is paused still",
    ]
    assert _json(console, "resume", "-e", "fetch") == {"entrypoint": "fetch", "queue": None, "changed": True}


@pytest.mark.parametrize("command", ["pause", "resume"])
def test_something_must_be_named(console: Console, command: str) -> None:
    done = console.run(command)
    assert done.returncode == 2
    assert done.stderr.endswith("name an --entrypoint, a --queue or both\n")
    assert "entrypoint='' has 0 characters" in console.refused(command, "-e", "", code=2)


def test_limits_are_listed(console: Console, pgq: PgQueuer) -> None:
    pgq.store.limits.declare([DeclaredLimit("fetch", 3), DeclaredLimit("mail", 0, 0.5, 2000.0)], [])
    pgq.limits.pause(queue="post")

    lines = [line.split() for line in console.output("limits").splitlines()]
    assert lines[0] == ["entrypoint", "queue", "running", "limit", "per", "second", "burst", "tokens", "paused"]
    assert lines[1][:3] == ["any", "post", "0"]
    assert lines[1][-2:] == ["s", "ago"]
    assert lines[2:] == [["fetch", "any", "0", "3"], ["mail", "any", "0", "0.5", "2000", "2000"]]
    found = {(each["entrypoint"], each["queue"]): each for each in _json(console, "limits")}
    assert found["mail", None]["tokens"] == 2000.0
    assert found[None, "post"]["paused_at"] is not None
