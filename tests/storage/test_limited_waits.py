"""For what limited jobs and those in quarantine keep a claimer waiting, and for what not; and what a clock may do to limits."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from pgq_sync import NewJob, PgQueuer
from pgq_sync.models import DeclaredLimit, Limit, Room
from tests.storage.conftest import Timed
from tests.storage.support import hand, query

TINY = 1e-9  # requests per second: none comes while a test runs


def enqueue(timed: Timed, count: int, **options: Any) -> None:
    timed.producer.enqueue_many(NewJob(entrypoint="limited", **options) for _ in range(count))


@pytest.mark.parametrize("left", [{"execute_after": timedelta(days=7)}, {"queue": "other"}], ids=["deferred", "not served"])
def test_only_jobs_that_could_be_claimed_wait_for_their_limit(timed: Timed, left: dict[str, Any]) -> None:
    timed.store.limits.declare([DeclaredLimit("limited", 0, TINY, 1.0)], [])
    enqueue(timed, 1)
    enqueue(timed, 1, **left)
    with hand(timed.store, "limited", queues=("default",)) as one:
        one.settle(one.claim())
        assert one.claim() == []
        assert not one.claimer.held_back  # or a drain would not end


def test_due_jobs_wait_for_the_tokens_of_a_workers_own_rate(timed: Timed) -> None:
    enqueue(timed, 2)
    with hand(timed.store, "limited", limits={"limited": Limit(requests_per_second=TINY, burst=1.0, scope="worker")}) as one:
        one.settle(one.claim())
        assert one.claim() == []
        assert one.claimer.held_back  # or a drain would end


@pytest.mark.parametrize("wait_for", ["a token", "a deferred job"])
def test_a_claimer_without_room_can_wait_for_months(timed: Timed, wait_for: str) -> None:
    timed.store.limits.declare([DeclaredLimit("limited", 5, TINY, 1.0)], [])
    enqueue(timed, 2 if wait_for == "a token" else 0)
    enqueue(timed, 1, execute_after=timedelta(days=60))
    with hand(timed.store, "limited") as one:
        one.claim()
        one.claim()
        waker = threading.Timer(0.1, one.claimer.wake)
        waker.start()
        one.claimer.wait(for_room=True)
        waker.join()


def test_a_limited_job_that_was_locked_for_a_moment_is_found_by_the_next_look(
    pgq: PgQueuer, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.storage.support.POLL_INTERVAL", timedelta(hours=1))
    pgq.store.limits.declare([DeclaredLimit("limited", 5)], [])
    pgq.enqueue("limited")
    with hand(pgq.store, "limited") as one:
        with psycopg.connect(dsn) as somebody:
            somebody.execute("select from pgq_job for update")
            assert one.claim() == []
        assert one.claimer._next_time() < time.monotonic() + 2  # type: ignore[attr-defined]  # of PostgreSQL's claimer


def test_a_suspect_that_becomes_due_while_another_one_runs_ends_no_wait(pgq: PgQueuer, dsn: str) -> None:
    query(dsn, "insert into pgq_job (entrypoint, rescues, execute_after) values ('work', 2, now() + interval '0.3 s')")
    with hand(pgq.store, "work") as one:
        for thorough in (True, False):
            assert one.claim(Room(10, 10, quarantine=False), thorough=thorough) == []
            if thorough:
                one.claimer.wait()
        # It is due by now, and nothing but the end of the other one lets it start.
        assert one.claimer._next_time() > time.monotonic() + 1  # type: ignore[attr-defined]  # of PostgreSQL's claimer


def test_a_clock_that_was_set_back_leaves_no_running_job_uncounted(timed: Timed) -> None:
    timed.store.limits.declare([DeclaredLimit("limited", 2)], [])
    with hand(timed.store, "limited") as one, hand(timed.store, "limited") as other:
        timed.clock.move(hours=2)
        enqueue(timed, 2)
        one.settle(one.claim())
        timed.clock.move(minutes=-30)
        enqueue(timed, 1)
        assert len(one.claim()) == 1
        timed.clock.move(minutes=60)
        enqueue(timed, 3)
        assert len(other.claim()) == 1
        assert one.claim() == other.claim() == []
