"""`pgq-sync doctor`: quiet on a sound installation, and each thing that is wrong told by name."""

from __future__ import annotations

import json
from contextlib import closing

import psycopg
import pytest

from pgq_sync import PgQueuer
from tests.cli.console import Console
from tests.storage.support import query, worker

JOB = "insert into pgq_job (entrypoint, status, worker_id, fence, claimed_at)"
CLAIMED = f"{JOB} select 'work', 'running', '00000000-0000-0000-0000-000000000001', 1, now() from generate_series(1, 2)"
FINISHED = """
    insert into pgq_history (id, finished_at, execute_after, created_at, attempts, priority, status, queue, entrypoint)
    select 7, now(), now(), now(), 1, 0, 'succeeded', 'default', 'work' from generate_series(1, %s)
"""
WORKER = "insert into pgq_worker (worker_id, name, host, pid, version, entrypoints, slots, beat_at)"
SCHEDULE = "insert into pgq_schedule (name, entrypoint, expression, next_at)"


def findings(console: Console, dsn: str) -> tuple[int, dict[str, list[tuple[str, str]]]]:
    result = console.run("doctor", "--json", "--dsn", dsn)
    told: dict[str, list[tuple[str, str]]] = {}
    for finding in json.loads(result.stdout):
        told.setdefault(finding["check"], []).append((finding["level"], finding["message"]))
    return result.returncode, told


def test_a_sound_installation_has_nothing_to_tell(console: Console, dsn: str) -> None:
    code, told = findings(console, dsn)
    assert code == 0
    assert {level for lines in told.values() for level, _ in lines} == {"ok"}
    assert len(told) >= 14


@pytest.mark.parametrize(
    ("sql", "check", "message"),
    [
        (f"{JOB} values ('work', 'running', null, null, now())", "half_claimed", "its worker_id is null"),
        (f"{JOB} values ('work', 'queued', null, 5, null)", "half_claimed", "its fence 5"),
        (FINISHED % 2, "finished_twice", "job 7 is 2 times in history"),
        (f"{FINISHED % 1}; insert into pgq_job (id, entrypoint) values (7, 'work')", "in_two_places", "job 7 is queued"),
        (
            "insert into pgq_limit (entrypoint, requests_per_second, burst, tokens) values ('work', 1, 2, 3)",
            "tokens_out_of_range",
            "the limit of work has 3.000 tokens in a bucket for 2",
        ),
    ],
)
def test_what_should_never_be_is_an_error(console: Console, dsn: str, sql: str, check: str, message: str) -> None:
    query(dsn, sql)
    code, told = findings(console, dsn)
    assert code == 1
    ((level, text),) = told[check]
    assert level == "error"
    assert message in text


def test_a_missing_partition_is_an_error_that_names_the_way_out(console: Console, dsn: str) -> None:
    ((today,),) = query(dsn, "select to_char(statement_timestamp() at time zone 'UTC', 'YYYYMMDD')")
    query(dsn, f"drop table pgq_history_{today}")
    code, told = findings(console, dsn)
    assert code == 1
    ((level, text),) = told["days_without_partition"]
    assert level == "error"
    assert "pgq_maintain" in text


@pytest.mark.parametrize(
    ("sql", "check", "message"),
    [
        (
            f"insert into pgq_limit (entrypoint, concurrency_limit) values ('work', 1); {CLAIMED}",
            "beyond_limit",
            "2 jobs of work run",
        ),
        (CLAIMED, "unknown_workers", "2 jobs run under worker 00000000"),
        (
            f"{WORKER} values (gen_random_uuid(), 'lost', 'host', 1, '0', array['work'], 1, now() - interval '1 minute')",
            "silent_workers",
            "worker lost has been silent for 6",
        ),
        ("insert into pgq_cancel values (9, now() - interval '1 hour')", "unheard_requests", "job 9 was asked to end 36"),
        (
            f"{SCHEDULE} values ('orphan', 'gone', '0 * * * *', now() + interval '1 hour')",
            "unserved_schedules",
            "no worker serves gone in queue default, for which the schedule orphan (0 * * * *) would fire",
        ),
        (
            f"{SCHEDULE} values ('late', 'work', '0 * * * *', now() - interval '70 s')",
            "overdue_schedules",
            "the schedule late (0 * * * *) has been due for 7",
        ),
        ("insert into pgq_job (entrypoint) values ('orphan')", "unserved_lanes", "no worker serves orphan in queue default"),
    ],
)
def test_what_will_hurt_is_a_warning(console: Console, dsn: str, sql: str, check: str, message: str) -> None:
    query(dsn, sql)
    code, told = findings(console, dsn)
    assert code == 0
    ((level, text),) = told[check]
    assert level == "warning"
    assert message in text


def test_schedules_that_fire_or_are_paused_are_nothing_to_tell(console: Console, pgq: PgQueuer, dsn: str) -> None:
    pgq.store.register(worker("work"))
    query(
        dsn,
        f"{SCHEDULE} values ('soon', 'work', '0 * * * *', now() - interval '50 s'), ('gone', 'gone', '@yearly', '2000-01-01')",
    )
    pgq.schedules.pause("gone")
    _, told = findings(console, dsn)
    assert [told[check][0][0] for check in ("unserved_schedules", "overdue_schedules")] == ["ok", "ok"]


def test_a_question_that_takes_too_long_is_given_up(console: Console, dsn: str) -> None:
    with closing(psycopg.connect(dsn)) as somebody:
        somebody.execute("lock table pgq_limit in access exclusive mode")
        _, told = findings(console, dsn)
    assert told["tokens_out_of_range"] == [("warning", "not examined: it takes longer than 5 s here")]


def test_without_a_schema_it_says_so(console: Console, empty_dsn: str) -> None:
    code, told = findings(console, empty_dsn)
    assert code == 1
    ((level, text),) = told["schema"]
    assert level == "error"
    assert "pgq-sync install" in text


def test_in_memory_there_is_nothing_to_examine() -> None:
    with pytest.raises(Exception, match="no database"):
        PgQueuer.in_memory().doctor()
