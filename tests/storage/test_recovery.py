"""Liveness on PostgreSQL: the lock that shows a worker's life, claims whose answer was lost, rows that somebody has locked."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pytest

from pgq_sync import NewJob, PgQueuer
from pgq_sync.models import Claim, Recovered, Rescued, WorkerInfo
from tests.storage.support import ear, hand, query, wait_until_blocked_by, wait_until_gone, worker
from tests.waiting import PATIENCE

LOCK = "select pg_advisory_lock(hashtextextended(%s::uuid::text, 0))"
LONG_AGO = "update pgq_worker set beat_at = now() - interval '1 minute' where worker_id = %s"


def enqueue(pgq: PgQueuer, count: int) -> list[int]:
    return list(pgq.enqueue_many(NewJob(entrypoint="work") for _ in range(count)))


@contextmanager
def session_of(dsn: str, who: WorkerInfo) -> Iterator[psycopg.Connection[Any]]:
    """An earlier session of this worker, which the server believes to be alive."""
    with closing(psycopg.connect(dsn, autocommit=True)) as connection:
        connection.execute(LOCK, [who.worker_id])
        yield connection


def dies(pgq: PgQueuer, dsn: str) -> tuple[WorkerInfo, list[Claim]]:
    """A worker that claims everything and has been silent for a minute."""
    victim = worker("work")
    pgq.store.register(victim)
    with hand(pgq.store, who=victim) as one:
        claims = one.claim()
    wait_until_gone(dsn, victim.worker_id)
    query(dsn, LONG_AGO, [victim.worker_id])
    return victim, claims


def rescuer(pgq: PgQueuer) -> WorkerInfo:
    alive = dataclasses.replace(worker("work"), name="rescuer")
    pgq.store.register(alive)
    return alive


def test_a_worker_has_one_session_and_what_is_left_of_an_earlier_one_is_ended(pgq: PgQueuer, dsn: str) -> None:
    who = worker("work")
    with session_of(dsn, who) as earlier, hand(pgq.store, who=who) as one:
        assert one.claimer.exclusive
        with pytest.raises(psycopg.OperationalError):
            earlier.execute("select 1")
        enqueue(pgq, 1)
        assert len(one.claim()) == 1
    wait_until_gone(dsn, who.worker_id)


def test_a_claim_that_an_earlier_session_has_not_committed_is_undone_before_the_next_session_works(
    pgq: PgQueuer, dsn: str
) -> None:
    enqueue(pgq, 1)
    who = worker("work")
    with session_of(dsn, who) as earlier:
        earlier.execute("begin")
        earlier.execute("update pgq_job set status = 'running', worker_id = %s, fence = 99", [who.worker_id])
        with hand(pgq.store, who=who) as one:
            assert one.claimer.recover([]) == Recovered([])
            assert len(one.claim()) == 1


def test_the_next_session_waits_for_one_that_is_about_to_end(pgq: PgQueuer, dsn: str) -> None:
    who, claimed = worker("work"), threading.Event()

    def work() -> None:
        with hand(pgq.store, who=who):
            claimed.set()

    with session_of(dsn, who) as earlier:
        thread = threading.Thread(target=work)
        thread.start()
        wait_until_blocked_by(dsn, earlier.info.backend_pid)
        assert not claimed.is_set()
        earlier.execute("select pg_advisory_unlock_all()")
        thread.join(PATIENCE)
        assert claimed.is_set()
        earlier.execute("select 1")  # it was not ended


def test_other_workers_sessions_and_locks_of_applications_are_left_alone(pgq: PgQueuer, dsn: str) -> None:
    who = worker("work")
    with session_of(dsn, worker("work")) as other, session_of(dsn, who), closing(psycopg.connect(dsn, autocommit=True)) as theirs:
        theirs.execute("select pg_advisory_lock(7), pg_advisory_lock(7, 7)")
        with hand(pgq.store, who=who):
            other.execute("select 1")
            theirs.execute("select 1")


def test_a_session_shows_its_workers_life_until_it_ends(pgq: PgQueuer, dsn: str) -> None:
    enqueue(pgq, 1)
    victim, _ = dies(pgq, dsn)
    alive = rescuer(pgq)
    with session_of(dsn, victim):
        assert pgq.store.rescue(alive) == []
    wait_until_gone(dsn, victim.worker_id)
    assert pgq.store.rescue(alive) == [Rescued("tester", 1)]
    wait_until_gone(dsn, victim.worker_id)  # the rescuer has not kept the lock


def test_the_server_notices_within_the_liveness_limit_that_the_workers_machine_is_lost(pgq: PgQueuer) -> None:
    with hand(pgq.store, "work") as one:
        settings = one.claimer._connection.execute(  # type: ignore[attr-defined]  # of PostgreSQL's claimer
            "select source from pg_settings where name like 'tcp_keepalives_%' order by name"
        )
        # Through a socket of the file system their values read 0: that they were set is all there is to see.
        assert settings.fetchall() == [("session",)] * 3


def test_claims_whose_answer_was_lost_are_put_back_and_the_known_ones_stay(pgq: PgQueuer, dsn: str) -> None:
    ids = enqueue(pgq, 6)
    with hand(pgq.store, "work") as one, hand(pgq.store, "work") as other:
        known, unheard = one.claim(2), one.claim(2)
        theirs = other.claim()
        assert one.claimer.recover(known) == Recovered([])

        rows = query(dsn, "select id, status, attempt, rescues, worker_id is null, errors from pgq_job order by id")
        assert [row[:2] for row in rows] == [(job_id, "queued" if 2 <= n < 4 else "running") for n, job_id in enumerate(ids)]
        assert {row[2:] for row in rows if row[1] == "queued"} == {(0, 0, True, None)}
        assert not one.settle(known).lost
        assert not other.settle(theirs).lost
        assert len(one.settle(unheard).lost) == 2
        again = one.claim()
        assert [claim.job.id for claim in again] == [claim.job.id for claim in unheard]


def test_claims_that_are_no_longer_the_workers_are_told(pgq: PgQueuer, dsn: str) -> None:
    enqueue(pgq, 5)
    with hand(pgq.store, "work") as one, hand(pgq.store, "work") as other:
        kept, finished, taken, waiting, mine_again = (one.claim_one() for _ in range(5))
        one.settle(finished)
        one.settle(taken, "released")
        assert [claim.job.id for claim in other.claim()] == [taken.job.id]
        one.settle(mine_again, "released")
        (later,) = one.claim()
        assert later.job.id == mine_again.job.id
        one.settle(waiting, "retried")

        claims = [kept, finished, taken, waiting, mine_again]
        assert one.claimer.recover(claims).lost == [finished, taken, waiting, mine_again]
        # The later claim was not among those that the worker knows of: it waits again.
        statuses = dict(query(dsn, "select id, status from pgq_job"))
        assert statuses == {
            kept.job.id: "running",
            taken.job.id: "running",
            waiting.job.id: "queued",
            mine_again.job.id: "queued",
        }


def test_of_two_claims_of_one_job_the_known_one_stays(pgq: PgQueuer, dsn: str) -> None:
    enqueue(pgq, 1)
    with hand(pgq.store, "work") as one:
        earlier = one.claim_one()
        one.settle(earlier, "released")
        later = one.claim_one()
        assert one.claimer.recover([later]) == Recovered([])
        assert one.claimer.recover([earlier]).lost == [earlier]
    assert query(dsn, "select status from pgq_job") == [("queued",)]


def test_what_is_put_back_is_told_to_everybody(pgq: PgQueuer, dsn: str) -> None:
    enqueue(pgq, 1)
    with hand(pgq.store, "work") as one:
        one.claim()
        with ear(dsn) as channel:
            one.claimer.recover([])
            assert channel.heard() == ["[0, 1]"]  # no lanes are named: everybody looks everywhere


@contextmanager
def locked(dsn: str, job_id: int) -> Iterator[None]:
    """Somebody has the row of this job locked."""
    with closing(psycopg.connect(dsn)) as somebody:
        somebody.execute("select from pgq_job where id = %s for update", [job_id])
        yield
        somebody.rollback()


def test_a_locked_row_keeps_nobody_from_being_rescued(pgq: PgQueuer, dsn: str) -> None:
    ids = enqueue(pgq, 3)
    victim, _ = dies(pgq, dsn)
    alive = rescuer(pgq)
    with locked(dsn, ids[1]):
        assert pgq.store.rescue(alive) == [Rescued("tester", 2)]
        assert pgq.store.rescue(alive) == [Rescued("tester", 0)]
        assert victim.worker_id in {info.worker_id for info in pgq.store.workers()}
    assert pgq.store.rescue(alive) == [Rescued("tester", 1)]
    assert query(dsn, "select status, rescues, count(*) from pgq_job group by status, rescues") == [("queued", 1, 3)]


def test_a_locked_row_keeps_no_worker_from_claiming_again(pgq: PgQueuer, dsn: str) -> None:
    ids = enqueue(pgq, 3)
    with hand(pgq.store, "work") as one:
        (known, *_) = one.claim()
        with locked(dsn, ids[1]):
            assert one.claimer.recover([known]) == Recovered([], complete=False)
            assert [claim.job.id for claim in one.claim()] == [ids[2]]


def test_a_worker_that_beats_again_while_it_is_rescued_is_not_forgotten(pgq: PgQueuer, dsn: str) -> None:
    victim, _ = dies(pgq, dsn)
    alive = rescuer(pgq)
    with closing(psycopg.connect(dsn)) as back:
        back.execute("update pgq_worker set beat_at = now() where worker_id = %s", [victim.worker_id])
        assert pgq.store.rescue(alive) == [Rescued("tester", 0)]
        back.commit()
    assert victim.worker_id in {info.worker_id for info in pgq.store.workers()}
