"""Dedupe keys between transactions: rivals that have committed, that commit while we wait, and that roll back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any, Literal

import psycopg
import pytest
import sqlalchemy.exc

from pgq_sync import DuplicateJob, NewJob, PgQueuer
from pgq_sync.models import JobRecord
from tests.storage.links import DRIVERS, Link, linked
from tests.storage.support import hand, query, wait_until_blocked_by
from tests.waiting import PATIENCE

End = Literal["had committed", "commits", "rolls back"]
MODES = ("raise", "skip", "existing", "replace")


@contextmanager
def _rival(pgq: PgQueuer, dsn: str, end: End) -> Iterator[int]:
    """A job under the key "k" of another transaction, which ends so: before, or as soon as somebody waits for it."""
    with closing(psycopg.connect(dsn)) as connection, ThreadPoolExecutor(1) as helper:
        job_id = pgq.on(connection).enqueue("work", "rival", dedupe_key="k")
        if end == "had committed":
            connection.commit()
            yield job_id
            return

        def finish() -> None:
            try:
                wait_until_blocked_by(dsn, connection.info.backend_pid)
            finally:
                connection.commit() if end == "commits" else connection.rollback()

        finished = helper.submit(finish)
        yield job_id
        finished.result()


def _enqueue(pgq: PgQueuer, link: Link, mode: Any, key: str = "k") -> int | DuplicateJob | None:
    try:
        job_id: int | None = pgq.on(link.given).enqueue("work", "ours", dedupe_key=key, on_conflict=mode)
    except DuplicateJob as error:
        return error
    return job_id


def _is_usable(pgq: PgQueuer, link: Link) -> None:
    """The connection, and the transaction it is in, go on working; ends the transaction."""
    assert link.run("select 7") == [(7,)]
    after = pgq.on(link.given).enqueue("after")
    link.commit()
    assert isinstance(pgq.jobs.get(after), JobRecord)


@pytest.mark.parametrize("autocommit", [True, False], ids=["autocommit", "transaction"])
@pytest.mark.parametrize("kind", DRIVERS)
@pytest.mark.parametrize("end", ["had committed", "commits", "rolls back"])
@pytest.mark.parametrize("mode", MODES)
def test_a_rival_is_waited_for_and_then_dealt_with(
    pgq: PgQueuer, dsn: str, mode: str, end: End, kind: str, autocommit: bool
) -> None:
    with linked(kind, dsn, autocommit=autocommit) as link:
        link.run("select 1")
        with _rival(pgq, dsn, end) as rival:
            got = _enqueue(pgq, link, mode)
        _is_usable(pgq, link)

    payloads = dict(query(dsn, "select id, payload from pgq_job where dedupe_key = 'k'"))
    if end == "rolls back":
        assert isinstance(got, int)
        assert payloads == {got: b"ours"}
    elif mode == "raise":
        assert isinstance(got, DuplicateJob)
        assert (got.key, got.job_id) == ("k", rival)
        assert payloads == {rival: b"rival"}
    else:
        assert got == (None if mode == "skip" else rival)
        assert payloads == {rival: b"ours" if mode == "replace" else b"rival"}


@pytest.mark.parametrize("end", ["commits", "rolls back"])
@pytest.mark.parametrize("mode", MODES)
def test_a_batch_waits_for_a_rival_too(pgq: PgQueuer, dsn: str, mode: Any, end: End) -> None:
    jobs = [NewJob(entrypoint="work", payload="ours", dedupe_key=key) for key in ("z", "k", None, "a", "k")]
    if mode == "raise":
        del jobs[-1]

    with _rival(pgq, dsn, end) as rival:
        try:
            ids: Any = pgq.enqueue_many(jobs, on_conflict=mode)
        except DuplicateJob as error:
            ids = error

    payloads = dict(query(dsn, "select id, payload from pgq_job"))
    if end == "commits" and mode == "raise":
        assert (ids.key, ids.job_id) == ("k", rival)
        assert payloads == {rival: b"rival"}
        return
    holder = {"skip": None, "existing": rival, "replace": rival}.get(mode) if end == "commits" else ids[1]
    last = {"raise": [], "skip": [None]}.get(mode, [holder])
    assert ids == [ids[0], holder, ids[2], ids[3], *last]
    assert len(payloads) == 4
    assert payloads.get(rival) == (None if end == "rolls back" else b"ours" if mode == "replace" else b"rival")


def test_a_rival_that_is_claimed_while_we_wait_for_it_is_not_replaced(pgq: PgQueuer, dsn: str) -> None:
    job_id = pgq.enqueue("work", "rival", dedupe_key="k")

    with closing(psycopg.connect(dsn)) as claiming, ThreadPoolExecutor(1) as helper:
        claiming.execute("update pgq_job set status = 'running', attempt = 1 where id = %s", [job_id])
        ours = helper.submit(pgq.enqueue, "work", "ours", dedupe_key="k", on_conflict="replace")
        wait_until_blocked_by(dsn, claiming.info.backend_pid)
        claiming.commit()
        assert ours.result() is None

    assert query(dsn, "select id, status, payload from pgq_job") == [(job_id, "running", b"rival")]


def test_a_rival_that_finishes_while_we_wait_for_it_frees_its_key(pgq: PgQueuer, dsn: str) -> None:
    pgq.enqueue("work", "rival", dedupe_key="k")

    with closing(psycopg.connect(dsn)) as finishing, ThreadPoolExecutor(1) as helper:
        finishing.execute("delete from pgq_job")
        ours = helper.submit(pgq.enqueue, "work", "ours", dedupe_key="k", on_conflict="replace")
        wait_until_blocked_by(dsn, finishing.info.backend_pid)
        finishing.commit()
        job_id = ours.result()

    assert query(dsn, "select id, payload from pgq_job") == [(job_id, b"ours")]


@pytest.mark.parametrize("ends", ["is claimed", "finishes"])
def test_a_rival_that_changes_when_we_are_about_to_replace_it_is_looked_at_again(pgq: PgQueuer, dsn: str, ends: str) -> None:
    job_id = pgq.enqueue("work", "rival", dedupe_key="k")

    with closing(psycopg.connect(dsn)) as holder, ThreadPoolExecutor(1) as helper:
        # Locked and not changed yet: our insert meets the key, and only the replacement waits.
        holder.execute("select from pgq_job for update")
        ours = helper.submit(pgq.enqueue, "work", "ours", dedupe_key="k", on_conflict="replace")
        wait_until_blocked_by(dsn, holder.info.backend_pid)
        holder.execute("delete from pgq_job" if ends == "finishes" else "update pgq_job set status = 'running'")
        holder.commit()
        got = ours.result()

    if ends == "finishes":
        assert got not in (None, job_id)
        assert query(dsn, "select id, payload from pgq_job") == [(got, b"ours")]
    else:
        assert got is None
        assert query(dsn, "select id, payload from pgq_job") == [(job_id, b"rival")]


def _serialization_failure(error: BaseException) -> bool:
    """Whether this is the driver's own error, as the framework hands it on."""
    cause = error.orig if isinstance(error, sqlalchemy.exc.DBAPIError) else error.__cause__ or error
    return (getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)) == "40001"


@pytest.mark.parametrize("kind", DRIVERS)
@pytest.mark.parametrize("mode", MODES)
def test_under_repeatable_read_a_rival_that_commits_after_the_snapshot_is_a_serialization_failure(
    pgq: PgQueuer, dsn: str, mode: Any, kind: str
) -> None:
    with linked(kind, dsn, autocommit=False) as link:
        link.run("set transaction isolation level repeatable read")
        link.run("select 1")
        rival = pgq.enqueue("work", "rival", dedupe_key="k")
        with pytest.raises(Exception, match="could not serialize access") as caught:
            _enqueue(pgq, link, mode)
        link.rollback()

    assert not type(caught.value).__module__.startswith("pgq_sync")
    assert _serialization_failure(caught.value)
    assert query(dsn, "select id, payload from pgq_job") == [(rival, b"rival")]


@pytest.mark.parametrize("kind", DRIVERS)
@pytest.mark.parametrize("mode", MODES)
def test_under_repeatable_read_a_rival_in_the_snapshot_is_dealt_with_as_usual(
    pgq: PgQueuer, dsn: str, mode: Any, kind: str
) -> None:
    rival = pgq.enqueue("work", "rival", dedupe_key="k")

    with linked(kind, dsn, autocommit=False) as link:
        link.run("set transaction isolation level repeatable read")
        link.run("select 1")
        got = _enqueue(pgq, link, mode)
        assert _enqueue(pgq, link, mode, "free") in [row[0] for row in link.run("select id from pgq_job")]
        _is_usable(pgq, link)

    assert isinstance(got, DuplicateJob) if mode == "raise" else got == (None if mode == "skip" else rival)


def _both_ways(pgq: PgQueuer, rounds: int, keys: int, mode: Any) -> Iterator[list[tuple[int | None, int | None]]]:
    """Two threads enqueue the same keys at once, in opposite orders; for each round what both got for each key."""
    barrier = threading.Barrier(2)

    def produce(step: int) -> list[list[int | None]]:
        ids = []
        for number in range(rounds):
            jobs = [NewJob(entrypoint="work", dedupe_key=f"{number}-{key:06}") for key in range(keys)][::step]
            barrier.wait(PATIENCE)
            try:
                ids.append(pgq.enqueue_many(jobs, on_conflict=mode)[::step])
            except psycopg.Error:
                barrier.abort()
                raise
        return ids

    with ThreadPoolExecutor(2) as threads:
        ours, theirs = threads.map(produce, [1, -1])
    assert pgq.jobs.count() == {("work", "queued"): rounds * keys}
    for one, other in zip(ours, theirs, strict=True):
        yield list(zip(one, other, strict=True))


@pytest.mark.parametrize("mode", ["skip", "existing", "replace"])
def test_overlapping_batches_in_opposite_order_never_wait_for_each_other(pgq: PgQueuer, mode: Any) -> None:
    for taken in _both_ways(pgq, rounds=40, keys=50, mode=mode):
        assert all((first is None) != (second is None) if mode == "skip" else first == second for first, second in taken)


def test_batches_of_several_statements_do_not_wait_for_each_other_either(pgq: PgQueuer) -> None:
    for taken in _both_ways(pgq, rounds=3, keys=12_000, mode="skip"):
        assert all((first is None) != (second is None) for first, second in taken)


def test_a_waiting_batch_does_not_keep_a_worker_from_finishing(pgq: PgQueuer, dsn: str) -> None:
    pgq.enqueue("work", dedupe_key="running")

    with hand(pgq.store, "work") as one, closing(psycopg.connect(dsn)) as open_transaction:
        claim = one.claim_one()
        producer = pgq.on(open_transaction)
        assert producer.enqueue("work", dedupe_key="running", on_conflict="replace") is None
        assert producer.enqueue("work", dedupe_key="running", on_conflict="skip") is None
        assert producer.enqueue("work", dedupe_key="running", on_conflict="existing") == claim.job.id
        assert one.settle(claim).written
        open_transaction.rollback()
