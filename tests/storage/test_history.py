"""History's partitions are made and dropped beside everybody who reads and finishes, and nobody waits."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime, timedelta, timezone

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pgq_sync import NewJob, PgQueuer
from pgq_sync.models import Outcome, Settlement
from tests.storage.conftest import Timed
from tests.storage.support import hand, query, wait_until_blocked_by

NOW = datetime(2031, 5, 17, 23, 30, tzinfo=timezone.utc)


@pytest.fixture
def impatient(dsn: str) -> str:
    """A DSN on which whoever waits fails."""
    return make_conninfo(dsn, options="-c statement_timeout=20s -c timezone=Pacific/Kiritimati")


@pytest.fixture
def reader(dsn: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """An open transaction that has read all of history."""
    with closing(psycopg.connect(dsn)) as connection:
        connection.execute("select count(*) from pgq_history").fetchall()
        yield connection


def _maintain(dsn: str, now: datetime, retention: timedelta | None = None) -> tuple[int, int]:
    ((made, dropped),) = query(dsn, "select made, dropped from pgq_maintain(%s, %s)", [now, retention])
    return made, dropped


def _days(dsn: str) -> list[str]:
    rows = query(dsn, "select right(inhrelid::regclass::text, 8) from pg_inherits where inhparent = 'pgq_history'::regclass")
    return sorted(row[0] for row in rows)


def test_days_begin_at_midnight_utc_wherever_the_session_is(impatient: str) -> None:
    _maintain(impatient, NOW, timedelta(days=1))

    assert _days(impatient) == [f"203105{day}" for day in range(16, 25)]
    bounds = "select pg_get_expr(relpartbound, oid) from pg_class where relname = 'pgq_history_20310517'"
    with closing(psycopg.connect(impatient)) as connection:
        connection.execute("set timezone to 'UTC'")
        assert connection.execute(bounds.encode()).fetchall() == [
            ("FOR VALUES FROM ('2031-05-17 00:00:00+00') TO ('2031-05-18 00:00:00+00')",)
        ]


def test_a_second_look_finds_nothing_to_do(dsn: str) -> None:
    assert _maintain(dsn, NOW)[0] == 9
    assert _maintain(dsn, NOW, timedelta(days=10_000)) == (0, 0)
    assert _maintain(dsn, NOW + timedelta(hours=1), timedelta(days=10_000)) == (1, 0)


def test_a_day_is_dropped_when_all_of_it_is_older_than_the_retention(dsn: str) -> None:
    retention = timedelta(days=7)
    _maintain(dsn, NOW, retention)
    kept = datetime(2031, 5, 24, tzinfo=timezone.utc)  # then the 16th has ended seven days ago

    _maintain(dsn, kept - timedelta(microseconds=1), retention)
    assert _days(dsn)[0] == "20310516"
    _maintain(dsn, kept + timedelta(microseconds=1), retention)
    assert _days(dsn)[0] == "20310517"


def test_days_are_made_while_somebody_reads(
    impatient: str, reader: psycopg.Connection[tuple[object, ...]], pgq: PgQueuer
) -> None:
    assert _maintain(impatient, NOW)[0] == 9

    pgq.enqueue("work")
    with hand(pgq.store, "work") as one:
        assert one.settle(one.claim_one()).written


@pytest.mark.parametrize("timed", ["postgres"], indirect=True)
def test_what_is_lost_is_lost_on_a_day_that_has_to_be_made_too(timed: Timed) -> None:
    timed.producer.enqueue_many(NewJob(entrypoint="work") for _ in range(3))
    with hand(timed.store, "work") as one:
        first, second, kept = one.claim()
        one.settle([first, second], "released")
        timed.clock.move(days=30)
        outcomes = {first: Outcome(status="retried"), second: Outcome(status="failed"), kept: Outcome(status="succeeded")}
        settled = timed.store.settle(one.worker.worker_id, [Settlement(claim, outcomes[claim]) for claim in outcomes])

    assert [each.claim for each in settled.written] == [kept]
    assert [each.claim for each in settled.lost] == [first, second]


def test_a_day_that_somebody_reads_is_dropped_the_next_time(
    impatient: str, reader: psycopg.Connection[tuple[object, ...]]
) -> None:
    later, retention = NOW + timedelta(days=100), timedelta(days=7)
    before = _days(impatient)

    assert _maintain(impatient, later, retention) == (9, 0)
    assert _days(impatient)[: len(before)] == before
    reader.rollback()
    assert _maintain(impatient, later, retention) == (0, len(before))


def test_two_who_look_after_history_at_once_do_not_disturb_each_other(dsn: str) -> None:
    with closing(psycopg.connect(dsn)) as first, ThreadPoolExecutor(1) as thread:
        first.execute("select pgq_maintain(%s)", [NOW])
        second = thread.submit(_maintain, dsn, NOW)
        wait_until_blocked_by(dsn, first.info.backend_pid)
        first.commit()
        assert second.result() == (0, 0)
