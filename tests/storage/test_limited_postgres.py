"""Limited claims on PostgreSQL: locks that others hold, durable commits, statements that fail, and rivals in earnest."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from pgq_sync import NewJob, PgQueuer, Settings
from pgq_sync.errors import StoreUnavailable
from pgq_sync.models import DeclaredLimit
from pgq_sync.storage.names import Names
from pgq_sync.storage.statements import statements
from tests.storage.support import Hand, hand, query
from tests.storage.test_limited_claims import names
from tests.waiting import PATIENCE

BREAK = """
    create function break() returns trigger language plpgsql as $$ begin
        raise exception 'on purpose' using errcode = '{code}';
    end $$;
    create constraint trigger break after update on pgq_job {when} for each row
        when (new.entrypoint = 'limited' and new.status = 'running') execute function break();
"""
WATCH = """
    create table seen (entrypoint text, durable text, isolation text, running bigint);
    create function watch() returns trigger language plpgsql as $$ begin
        insert into seen
        select new.entrypoint, current_setting('synchronous_commit'), current_setting('transaction_isolation'), count(*)
        from pgq_job where entrypoint = new.entrypoint and status = 'running';
        return null;
    end $$;
    create constraint trigger watch after update on pgq_job deferrable initially deferred for each row
        when (new.status = 'running') execute function watch();
"""
LANE = (
    '[{"n": 0, "queue": "default", "entrypoint": "limited", "priority": 0, "quarantined": false, "locked": true,'
    ' "bound": "2020-01-01", "room": 1}]'
)


def limit(pgq: PgQueuer, entrypoint: str, *numbers: Any) -> None:
    pgq.store.limits.declare([DeclaredLimit(entrypoint, *numbers)], [])


def enqueue(pgq: PgQueuer, **counts: int) -> None:
    for entrypoint, count in counts.items():
        pgq.enqueue_many(NewJob(entrypoint=entrypoint) for _ in range(count))


@contextmanager
def somebody(dsn: str, statement: str) -> Iterator[psycopg.Connection[Any]]:
    """Somebody in a transaction of his own, in which he has run the statement."""
    with closing(psycopg.connect(dsn)) as connection:
        connection.execute(statement.encode())
        yield connection
        connection.rollback()


def in_transaction(dsn: str) -> bool:
    """Whether anybody is in a transaction, and does nothing."""
    idle = "select pid from pg_stat_activity where datname = current_database() and state like 'idle in transaction%'"
    return bool(query(dsn, idle))


def test_a_limit_that_is_locked_delays_its_own_entrypoint_alone(pgq: PgQueuer, dsn: str) -> None:
    for entrypoint in ("limited", "other"):
        limit(pgq, entrypoint, 5)
    enqueue(pgq, limited=3, other=3, plain=3)
    with hand(pgq.store, "limited", "other", "plain") as one:
        with somebody(dsn, "select from pgq_limit where entrypoint = 'limited' for update"):
            assert names(one.claim()) == {"other": 3, "plain": 3}
            assert one.claim() == []
            assert one.claimer.held_back  # a drain does not end by that
            enqueue(pgq, plain=2)
            assert names(one.claim()) == {"plain": 2}
        assert names(one.claim()) == {"limited": 3}
        assert not one.claimer.held_back


def test_claims_of_limited_jobs_are_durable_and_others_need_not_be(pgq: PgQueuer, dsn: str) -> None:
    limit(pgq, "limited", 5)
    enqueue(pgq, limited=1, plain=1)
    query(dsn, WATCH)
    with hand(pgq.store, "limited", "plain") as one:
        assert len(one.claim()) == 2
    assert dict(query(dsn, "select entrypoint, durable from seen")) == {"limited": "on", "plain": "off"}


@pytest.mark.parametrize("when", ["", "deferrable initially deferred"], ids=["the claim", "its commit"])
def test_a_claim_that_fails_leaves_no_transaction_open_and_takes_nothing(pgq: PgQueuer, dsn: str, when: str) -> None:
    limit(pgq, "limited", 5, 1e-9, 5.0)
    enqueue(pgq, limited=1)
    with hand(pgq.store, "limited", "plain") as one:
        query(dsn, BREAK.format(code="40001", when=when))
        with pytest.raises(StoreUnavailable, match="on purpose"):
            one.claim()
        assert not in_transaction(dsn)
        (tokens,) = (each.tokens for each in pgq.limits.list())
        assert tokens == pytest.approx(5)
        query(dsn, "drop trigger break on pgq_job")
        assert names(one.claim()) == {"limited": 1}


@pytest.mark.parametrize("code", ["40001", "22012"], ids=["in passing", "for good"])
def test_what_one_statement_has_claimed_is_not_lost_where_another_fails(pgq: PgQueuer, dsn: str, code: str) -> None:
    limit(pgq, "limited", 5)
    enqueue(pgq, limited=1, plain=20)
    query(dsn, BREAK.format(code=code, when=""))
    with hand(pgq.store, "limited", "plain") as one:
        got = []
        with pytest.raises((StoreUnavailable, psycopg.DataError)):
            for _ in range(30):
                got += one.claim(1)
        assert len(got) == len(query(dsn, "select id from pgq_job where status = 'running'"))


@pytest.fixture
def strict(dsn: str) -> Iterator[PgQueuer]:
    """An application on a database where transactions are stricter by default."""
    name = conninfo_to_dict(dsn)["dbname"]
    query(dsn, f"alter database {name} set default_transaction_isolation to 'repeatable read'")
    with PgQueuer.from_dsn(dsn, settings=Settings()) as application:
        yield application
    query(dsn, f"alter database {name} reset default_transaction_isolation")


def test_every_claim_reads_what_is_committed_whatever_the_databases_default_is(strict: PgQueuer, dsn: str) -> None:
    limit(strict, "limited", 5)
    enqueue(strict, limited=1, plain=1)
    query(dsn, WATCH)
    with hand(strict.store, "limited", "plain") as one:
        assert len(one.claim()) == 2
    assert dict(query(dsn, "select entrypoint, isolation from seen")) == dict.fromkeys(("limited", "plain"), "read committed")


def test_limited_jobs_come_in_the_order_in_which_they_are_to_start(pgq: PgQueuer) -> None:
    limit(pgq, "limited", 5)
    ids = pgq.enqueue_many(NewJob(entrypoint="limited") for _ in range(5))
    with hand(pgq.store, "limited") as one:
        assert [claim.job.id for claim in one.claim()] == ids


@pytest.mark.parametrize("at_once", [1, 3])
def test_rivals_on_jobs_that_take_no_time_never_exceed_the_limit(pgq: PgQueuer, dsn: str, at_once: int) -> None:
    limit(pgq, "limited", at_once)
    enqueue(pgq, limited=400)
    query(dsn, WATCH)
    done: list[int] = []
    start = threading.Barrier(4)

    def work() -> None:
        with hand(pgq.store, "limited") as one:
            start.wait(PATIENCE)
            while len(done) < 400:
                claims = one.claim(2)
                one.settle(claims)
                done.extend(claim.job.id for claim in claims)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(set(done)) == len(done) == 400
    ((most,),) = query(dsn, "select max(running) from seen")
    assert 0 < most <= at_once


def pages_read(one: Hand) -> int:
    """How many pages a claim of one limited job touches, as the claimer's session plans it; nothing is claimed."""
    connection = one.claimer._connection  # type: ignore[attr-defined]  # of PostgreSQL's claimer
    claim = statements(Names())["claim_carefully"]
    params = {"lanes": LANE, "room": 1, "worker_id": one.worker.worker_id, "fence": 99, "now": None}
    with connection.transaction(force_rollback=True):
        ((plan,),) = connection.execute(f"explain (analyze, buffers, format json) {claim}".encode(), params)
    return int(plan[0]["Plan"]["Shared Hit Blocks"] + plan[0]["Plan"]["Shared Read Blocks"])


def run_many(dsn: str) -> None:
    """Jobs that have come, run and gone; as far as the planner knows many run still."""
    query(dsn, "insert into pgq_job (entrypoint) select 'limited' from generate_series(1, 20000)")
    query(dsn, "update pgq_job set status = 'running', worker_id = gen_random_uuid(), fence = 1, claimed_at = now()")
    query(dsn, "analyze pgq_job")
    query(dsn, "delete from pgq_job")


def test_a_limited_claim_passes_by_what_is_left_of_jobs_that_are_gone_before_a_vacuum_comes(pgq: PgQueuer, dsn: str) -> None:
    query(dsn, "alter table pgq_job set (autovacuum_enabled = off)")
    limit(pgq, "limited", 5)
    run_many(dsn)
    enqueue(pgq, limited=2)
    with hand(pgq.store, "limited") as one:
        one.claim(1)
        one.claim(1)
        # The pages of the indexes themselves, and hardly any of the table.
        assert pages_read(one) < 2_000


def test_a_limited_claim_passes_by_what_no_vacuum_may_remove(pgq: PgQueuer, dsn: str) -> None:
    query(dsn, "alter table pgq_job set (autovacuum_enabled = off)")
    limit(pgq, "limited", 5)
    query(dsn, "update pgq_limit set declared_at = now() - interval '1 hour'")  # no claim is from before there was a limit
    with closing(psycopg.connect(dsn)) as reader, hand(pgq.store, "limited") as one:
        reader.execute("set transaction isolation level repeatable read")
        reader.execute("select count(*) from pgq_job")
        run_many(dsn)
        enqueue(pgq, limited=2)
        one.settle(one.claim(1))
        assert pages_read(one) < 2_000
