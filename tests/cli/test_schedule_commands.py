"""`pgq-sync schedules` and its commands."""

from __future__ import annotations

import json
import re
from datetime import datetime, timezone
from typing import Any

import pytest

from pgq_sync import PgQueuer
from tests.cli.console import Console
from tests.storage.support import query


def _json(console: Console, *arguments: str) -> Any:
    return json.loads(console.output("schedules", *arguments, "--json"))


@pytest.mark.parametrize("command", [(), ("list",)], ids=["bare", "list"])
def test_schedules_are_listed(console: Console, pgq: PgQueuer, dsn: str, command: tuple[str, ...]) -> None:
    pgq.schedules.add("cleanup", "0 * * * *")
    pgq.schedules.add("customer 7", "0 9 * * *", timezone="Europe/Berlin", entrypoint="report", queue="night", on_missed="all")
    pgq.schedules.pause("customer 7")
    query(
        dsn,
        "update pgq_schedule set last_at = now() - interval '130 s', next_at = now() + interval '90 s' where name = 'cleanup'",
    )

    lines = [re.split("  +", line) for line in console.output("schedules", *command).splitlines()]
    assert lines[0] == ["name", "expression", "timezone", "next", "last", "missed", "queue", "entrypoint"]
    assert lines[1] == ["cleanup", "0 * * * *", "UTC", "in 1 min", "2 min ago", "once", "default"]
    assert lines[2][:3] == ["customer 7", "0 9 * * *", "Europe/Berlin"]
    assert re.fullmatch(r"paused \d+ s ago", lines[2][3])
    assert lines[2][4:] == ["all", "night", "report"]
    found = _json(console, *command)
    assert [(each["name"], each["on_missed"], each["jitter"]) for each in found] == [
        ("cleanup", "once", None),
        ("customer 7", "all", None),
    ]


def test_options_of_the_listing_need_no_command(console: Console, dsn: str) -> None:
    assert json.loads(console.output("schedules", "--json", "--dsn", dsn)) == []
    assert "run-now" in console.output("schedules", "--help")


def test_one_that_is_late_says_so(console: Console, pgq: PgQueuer, dsn: str) -> None:
    pgq.schedules.add("cleanup", "0 * * * *")
    query(dsn, "update pgq_schedule set next_at = now() - interval '2 hours'")
    assert "due for 2 h" in console.output("schedules")


def test_a_schedule_is_added_and_changed(console: Console, pgq: PgQueuer) -> None:
    options = ("--timezone", "Europe/Berlin", "--on-missed", "skip", "--jitter", "5m", "--queue", "night", "--priority", "3")
    told = console.output("schedules", "add", "customer 7", "0 9 * * *", "7", "-e", "report", *options)
    (made,) = pgq.schedules.list()
    assert told == f"customer 7 (0 9 * * *) is due next at {made.next_at:%Y-%m-%d %H:%M:%S} UTC\n"
    assert (made.timezone, made.on_missed, made.queue, made.priority) == ("Europe/Berlin", "skip", "night", 3)
    assert (made.jitter and made.jitter.total_seconds(), made.entrypoint, made.payload) == (300, "report", b"7")
    assert _json(console, "add", "customer 7", "0 9 * * *")["on_missed"] == "once"
    assert len(pgq.schedules.list()) == 1


def test_what_was_done_is_told(console: Console, pgq: PgQueuer) -> None:
    for expression in ("0 * * * *", "30 * * * *"):
        pgq.schedules.add("cleanup", expression)

    def told(*arguments: str) -> str:
        return console.output("schedules", *arguments)

    assert told("pause", "cleanup", "0 * * * *") == "paused cleanup (0 * * * *)\n"
    assert told("pause", "cleanup", "0 * * * *") == "cleanup (0 * * * *) was paused already\n"
    assert _json(console, "pause", "cleanup")["changed"] == 1
    assert told("resume", "cleanup") == "resumed cleanup\n"
    assert told("resume", "cleanup") == "cleanup was not paused\n"
    job = pgq.jobs.get(int(told("run-now", "cleanup")))
    assert job is not None
    assert job.entrypoint == "cleanup"
    assert _json(console, "run-now", "cleanup")["job_id"] == job.id + 1
    assert told("remove", "--yes", "cleanup", "0 * * * *") == "removed cleanup (0 * * * *)\n"
    assert [each.expression for each in pgq.schedules.list()] == ["30 * * * *"]


def test_before_removing_it_asks(console: Console, pgq: PgQueuer) -> None:
    pgq.schedules.add("cleanup", "@daily")
    refused = console.run("schedules", "remove", "cleanup", stdin="n\n")
    assert refused.returncode == 130
    assert "Remove schedule cleanup?" in refused.stderr
    assert len(pgq.schedules.list()) == 1
    assert console.output("schedules", "remove", "cleanup", stdin="y\n").endswith("removed cleanup\n")
    assert pgq.schedules.list() == []


@pytest.mark.parametrize("command", ["pause", "resume", "remove", "run-now", "next"])
def test_an_unknown_name_is_one_line_with_close_ones(console: Console, pgq: PgQueuer, command: str) -> None:
    pgq.schedules.add("cleanup", "@daily")
    arguments = ("--yes",) if command == "remove" else ()
    line = console.refused("schedules", command, "clenup", *arguments, code=2)
    assert "there is no schedule 'clenup'; did you mean 'cleanup'?" in line


def test_an_expression_that_cannot_be_followed_is_one_line(console: Console) -> None:
    assert "field 1 (minute)" in console.refused("schedules", "add", "cleanup", "61 * * * *", code=2)
    assert "timezone='Mars'" in console.refused("schedules", "add", "cleanup", "@daily", "--timezone", "Mars", code=2)


def test_the_coming_ticks_are_told_in_local_time(console: Console, pgq: PgQueuer, dsn: str) -> None:
    pgq.schedules.add("cleanup", "0 9 * * *", timezone="Asia/Kathmandu")
    pgq.schedules.add("report", "@hourly")
    pgq.schedules.add("paused", "* * * * * *")
    pgq.schedules.pause("paused")
    pgq.schedules.add("broken", "* * * * *")
    query(dsn, "update pgq_schedule set timezone = 'Mars' where name = 'broken'")

    lines = [re.split("  +", line) for line in console.output("schedules", "next", "cleanup", "-n", "3").splitlines()]
    assert lines[0] == ["local time", "timezone", "in", "name", "expression"]
    assert len(lines) == 4
    for line in lines[1:]:
        assert re.fullmatch(r"\d{4}-\d\d-\d\d 09:00:00 \+0545", line[0])
        assert (line[1], line[3], line[4]) == ("Asia/Kathmandu", "cleanup", "0 9 * * *")
        assert re.fullmatch(r"\d+ (s|min|h|d)", line[2])
    assert re.fullmatch("[23] d", lines[3][2])  # in its largest unit

    done = console.run("schedules", "next", "-n", "30", "--json")
    assert "left out: broken (* * * * *): timezone='Mars' is unknown" in done.stderr
    found = [(datetime.fromisoformat(each["due_at"]), each["name"]) for each in json.loads(done.stdout)]
    assert found == sorted(found)
    assert len(found) == 30
    assert {name for _, name in found} == {"cleanup", "report"}
    assert found[0][0] > datetime.now(timezone.utc)
