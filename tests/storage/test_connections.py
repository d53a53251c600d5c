"""Enqueuing on the caller's connection, of every kind: in its transaction, all or nothing, and never closed by us."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import psycopg
import psycopg2
import pytest
import sqlalchemy
from psycopg_pool import ConnectionPool
from sqlalchemy.orm import Session

from pgq_sync import Job, NewJob, PgQueuer, Settings
from tests.storage.links import DRIVERS, KINDS, linked, sqlalchemy_engine
from tests.storage.support import query

# What drivers and frameworks might take for something of their own.
ODD = "ä'\"\\ %s %(x)s %% {} {a,b} NULL :colon ?"

# What the connections to a database, but for the one that asks, have done last.
SEEN = """
    select state, query, query_start from pg_stat_activity where pid = %s
"""


@pytest.mark.parametrize("kind", KINDS)
def test_what_commits_is_enqueued(pgq: PgQueuer, dsn: str, kind: str) -> None:
    with linked(kind, dsn, autocommit=False) as link:
        link.run("create table theirs ()")
        producer = pgq.on(link.given)
        ids = [producer.enqueue("work"), *producer.enqueue_many(NewJob(entrypoint="work") for _ in range(2))]
        assert pgq.jobs.count() == {}
        assert link.run("select count(*) from pgq_job") == [(3,)]
        link.commit()

    assert [record.id for record in pgq.jobs.find()] == sorted(ids, reverse=True)
    assert query(dsn, "select to_regclass('theirs') is not null") == [(True,)]


@pytest.mark.parametrize("kind", KINDS)
def test_what_rolls_back_was_never_enqueued(pgq: PgQueuer, dsn: str, kind: str) -> None:
    with linked(kind, dsn, autocommit=False) as link:
        producer = pgq.on(link.given)
        producer.enqueue("work")
        producer.enqueue_many(NewJob(entrypoint="work", dedupe_key=key) for key in "abc")
        link.rollback()

    assert pgq.jobs.count() == {}


@pytest.mark.parametrize("kind", KINDS)
def test_in_autocommit_a_job_is_there_at_once(pgq: PgQueuer, dsn: str, kind: str) -> None:
    with linked(kind, dsn, autocommit=True) as link:
        job_id = pgq.on(link.given).enqueue("work")
        assert pgq.jobs.get(job_id) is not None


@pytest.mark.parametrize("kind", KINDS)
def test_in_autocommit_a_batch_that_takes_several_statements_is_all_or_none(
    pgq: PgQueuer, dsn: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgq_sync.storage.inserts.MOST_BYTES", 1_000)
    query(dsn, "alter table pgq_job add constraint no_last check (entrypoint <> 'last')")
    jobs = [NewJob(entrypoint=name, payload=bytes(100)) for name in [*["work"] * 49, "last"]]
    with linked(kind, dsn, autocommit=True) as link:
        with pytest.raises(Exception, match="no_last"):
            pgq.on(link.given).enqueue_many(jobs)
        assert pgq.jobs.count() == {}
        assert len(pgq.on(link.given).enqueue_many(jobs[:-1])) == 49
        assert pgq.jobs.count() == {("work", "queued"): 49}


@pytest.mark.parametrize("kind", KINDS)
def test_every_value_arrives_as_it_was_given(pgq: PgQueuer, dsn: str, kind: str) -> None:
    payloads = [bytes(range(256)), ODD.encode(), b"", None, b"\\x00", b"NULL"]
    jobs = [
        NewJob(entrypoint=ODD, payload=payload, headers={ODD: [ODD, 1.5, None, True]}, queue=ODD, dedupe_key=f"{ODD}{number}")
        for number, payload in enumerate(payloads)
    ]

    with linked(kind, dsn, autocommit=False) as link:
        producer = pgq.on(link.given)
        one = producer.enqueue(ODD, payloads[0], headers=jobs[0].headers, queue=ODD, dedupe_key=ODD)
        keyed = producer.enqueue_many(jobs)
        plain = producer.enqueue_many(NewJob(entrypoint=ODD, payload=payload) for payload in payloads)
        link.commit()

    records = [pgq.jobs.get(job_id) for job_id in (one, *keyed, *plain)]
    assert [record and record.payload for record in records] == [payloads[0], *payloads, *payloads]
    for record, key in zip(records, [ODD, *(job.dedupe_key for job in jobs)], strict=False):
        assert record is not None
        assert (record.entrypoint, record.queue, record.dedupe_key) == (ODD, ODD, key)
        assert record.headers == {ODD: [ODD, 1.5, None, True]}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", [{"payload": 42}, {"priority": 40_000}], ids=["TypeError", "ValueError"])
def test_a_transaction_survives_a_job_that_was_refused(pgq: PgQueuer, dsn: str, kind: str, bad: dict[str, Any]) -> None:
    with linked(kind, dsn, autocommit=False) as link:
        producer = pgq.on(link.given)
        before = producer.enqueue("work")
        with pytest.raises((TypeError, ValueError)):
            producer.enqueue("work", **bad)
        with pytest.raises((TypeError, ValueError)):
            producer.enqueue_many([NewJob(entrypoint="work"), NewJob(entrypoint="work", **bad)])
        assert link.run("select id from pgq_job") == [(before,)]
        link.commit()

    assert pgq.jobs.count() == {("work", "queued"): 1}


def _many(count: int, last: NewJob) -> Iterator[NewJob]:
    yield from (NewJob(entrypoint="work", payload=str(number)) for number in range(count - 1))
    yield last


@pytest.mark.parametrize("autocommit", [True, False], ids=["autocommit", "transaction"])
@pytest.mark.parametrize("kind", DRIVERS)
def test_a_large_batch_comes_from_a_generator_and_its_ids_in_its_order(
    pgq: PgQueuer, dsn: str, kind: str, autocommit: bool
) -> None:
    with linked(kind, dsn, autocommit=autocommit) as link:
        ids = pgq.on(link.given).enqueue_many(_many(25_000, NewJob(entrypoint="work", payload="24999")))
        link.commit()

    rows = query(dsn, "select id, convert_from(payload, 'utf8')::int from pgq_job order by 2")
    assert [row[0] for row in rows] == ids
    assert len(ids) == 25_000


@pytest.mark.parametrize("autocommit", [True, False], ids=["autocommit", "transaction"])
@pytest.mark.parametrize("kind", DRIVERS)
def test_a_large_batch_is_all_or_nothing(pgq: PgQueuer, dsn: str, kind: str, autocommit: bool) -> None:
    with linked(kind, dsn, autocommit=autocommit) as link:
        producer = pgq.on(link.given)
        before = producer.enqueue("before")
        with pytest.raises(ValueError, match="priority=40000"):
            producer.enqueue_many(_many(25_000, NewJob(entrypoint="work", priority=40_000)))
        assert link.run("select id from pgq_job") == [(before,)]
        after = producer.enqueue("after")
        link.commit()

    assert [record.id for record in pgq.jobs.find()] == [after, before]


def test_a_large_batch_within_a_block_of_an_autocommit_connection_undoes_only_itself(pgq: PgQueuer, dsn: str) -> None:
    with closing(psycopg.connect(dsn, autocommit=True)) as connection:
        producer = pgq.on(connection)
        with connection.transaction():
            before = producer.enqueue("before")
            with pytest.raises(ValueError, match="priority"):
                producer.enqueue_many(_many(12_000, NewJob(entrypoint="work", priority=40_000)))
            assert pgq.jobs.count() == {}

    assert [record.id for record in pgq.jobs.find()] == [before]


def test_a_generator_that_fails_leaves_nothing_of_its_batch(either: PgQueuer) -> None:
    def jobs() -> Iterator[NewJob]:
        yield from (NewJob(entrypoint="work", dedupe_key=str(number)) for number in range(12_000))
        raise LookupError("the source is dry")

    with pytest.raises(LookupError, match="the source is dry"):
        either.enqueue_many(jobs())

    assert either.jobs.count() == {}
    assert either.enqueue("work", dedupe_key="7")


@pytest.mark.parametrize("pick", [lambda c: c, lambda c: c.cursor()], ids=["connection", "cursor"])
def test_an_asynchronous_psycopg_connection_is_refused(either: PgQueuer, dsn: str, pick: Callable[[Any], Any]) -> None:
    async def attempt() -> None:
        async with await psycopg.AsyncConnection.connect(dsn) as connection:
            with pytest.raises(TypeError, match="synchronous"):
                either.on(pick(connection)).enqueue("work")

    asyncio.run(attempt())
    assert either.jobs.count() == {}


@pytest.mark.parametrize("kind", ["AsyncConnection", "AsyncSession", "async_scoped_session"])
def test_an_asynchronous_sqlalchemy_connection_is_refused(either: PgQueuer, kind: str) -> None:
    from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker, create_async_engine

    engine = create_async_engine("postgresql+psycopg://nobody@localhost/nowhere")
    given: dict[str, Callable[[], Any]] = {
        "AsyncConnection": engine.connect,
        "AsyncSession": lambda: AsyncSession(engine),
        "async_scoped_session": lambda: async_scoped_session(async_sessionmaker(engine), scopefunc=lambda: 1),
    }

    with pytest.raises(TypeError, match=kind):
        either.on(given[kind]()).enqueue("work")
    assert either.jobs.count() == {}


@pytest.mark.parametrize("kind", ["psycopg", "psycopg cursor", "SQLAlchemy Connection on psycopg"])
def test_a_closed_connection_is_refused(either: PgQueuer, dsn: str, kind: str) -> None:
    with linked(kind, dsn, autocommit=True) as link:
        link.run("select 1")
        owner = link.given.connection if kind == "psycopg cursor" else link.given
        owner.close()
        with pytest.raises(ConnectionError, match="closed"):
            either.on(link.given).enqueue("work")
    assert either.jobs.count() == {}


def test_a_session_that_was_closed_for_good_is_refused(pgq: PgQueuer, dsn: str) -> None:
    with sqlalchemy_engine(dsn, "psycopg") as engine:
        session = Session(engine, close_resets_only=False)
        session.close()
        with pytest.raises(ConnectionError, match="closed"):
            pgq.on(session).enqueue("work")
    assert pgq.jobs.count() == {}


@pytest.mark.parametrize("given", [None, object(), 42, {}, psycopg, b"default"], ids=lambda given: type(given).__name__)
def test_what_is_no_connection_is_refused(either: PgQueuer, given: Any) -> None:
    with pytest.raises(TypeError):
        either.on(given).enqueue("work")
    assert either.jobs.count() == {}


def test_what_is_no_connection_of_a_known_kind_is_refused(either: PgQueuer, dsn: str) -> None:
    with closing(psycopg2.connect(dsn)) as bare, sqlalchemy_engine(dsn, "psycopg") as engine:
        for given in (bare, bare.cursor(), engine):
            with pytest.raises(TypeError, match="pass a psycopg connection"):
                either.on(given).enqueue("work")
    assert either.jobs.count() == {}


@pytest.mark.parametrize("given", ["postgresql://me:hunter2@db/shop", "host=db password=hunter2", "hunter2@db"])
@pytest.mark.parametrize("loaded", [True, False], ids=["Django", "no Django"])
def test_a_dsn_in_place_of_a_connection_is_refused_and_not_shown(
    either: PgQueuer, monkeypatch: pytest.MonkeyPatch, given: str, loaded: bool
) -> None:
    django: Any = SimpleNamespace(connections={}) if loaded else None
    monkeypatch.setitem(sys.modules, "django.db", django)

    with pytest.raises(TypeError, match="pass an open connection") as refused:
        either.on(given).enqueue("work")

    assert "hunter2" not in str(refused.value)
    assert either.jobs.count() == {}


def test_a_connection_to_another_kind_of_database_is_refused(pgq: PgQueuer) -> None:
    engine = sqlalchemy.create_engine("sqlite://")
    with engine.connect() as connection, Session(engine) as session:
        for given in (connection, session):
            with pytest.raises(TypeError, match="is connected to sqlite: pgq-sync needs PostgreSQL"):
                pgq.on(given).enqueue("work")


def test_in_memory_the_rest_may_be_in_another_kind_of_database() -> None:
    engine = sqlalchemy.create_engine("sqlite://")
    pgq = PgQueuer.in_memory(settings=Settings())
    with engine.connect() as connection, Session(engine) as session, Session() as unbound:
        for given in (connection, session, unbound):
            pgq.on(given).enqueue("work")
    assert pgq.jobs.count() == {("work", "queued"): 3}


@pytest.mark.parametrize("given", [None, 42])
def test_what_is_no_connection_is_refused_by_jobs_and_schedules_too(either: PgQueuer, given: Any) -> None:
    with pytest.raises(TypeError):
        either.on(given).jobs.count()
    with pytest.raises(TypeError):
        either.on(given).schedules.list()


@pytest.mark.parametrize("kind", KINDS)
def test_in_memory_nothing_is_done_on_a_connection(dsn: str, kind: str) -> None:
    pgq = PgQueuer.in_memory(settings=Settings())
    with linked(kind, dsn, autocommit=False) as link:
        pid = link.run("select pg_backend_pid()")[0]
        before = query(dsn, SEEN, pid)
        job_id = pgq.on(link.given).enqueue("work")
        pgq.on(link.given).jobs.count()
        pgq.on(link.given).schedules.list()
        assert query(dsn, SEEN, pid) == before
        link.rollback()

    assert pgq.jobs.get(job_id) is not None


@pytest.mark.parametrize("autocommit", [True, False], ids=["autocommit", "transaction"])
def test_the_callers_connection_is_used_and_never_closed(dsn: str, autocommit: bool) -> None:
    with closing(psycopg.connect(dsn, autocommit=autocommit)) as connection:
        with PgQueuer.from_psycopg_connection(connection, settings=Settings()) as pgq:
            pgq.entrypoint("work")(_do_nothing)
            job_id = pgq.enqueue("work")
            assert query(dsn, "select id from pgq_job") == ([(job_id,)] if autocommit else [])
            connection.commit()
            assert pgq.drain().counts == {"succeeded": 1}
        assert not connection.closed
        assert connection.execute("select id from pgq_history").fetchall() == [(job_id,)]
        connection.rollback()
        pgq.enqueue("work")
        connection.rollback()
        pgq.close()


@pytest.mark.parametrize("autocommit", [True, False], ids=["autocommit", "transactions"])
def test_the_callers_pool_is_used_and_never_closed(dsn: str, autocommit: bool) -> None:
    with ConnectionPool(dsn, min_size=0, max_size=4, open=True, kwargs={"autocommit": autocommit}) as pool:
        with PgQueuer.from_psycopg_pool(pool, settings=Settings()) as pgq:
            pgq.entrypoint("work")(_do_nothing)
            ids = pgq.enqueue_many(NewJob(entrypoint="work") for _ in range(50))
            assert query(dsn, "select count(*) from pgq_job") == [(50,)]
            assert pgq.drain().counts == {"succeeded": 50}
        assert not pool.closed
        with pool.connection() as connection:
            assert connection.execute("select id from pgq_history order by 1").fetchall() == [(job_id,) for job_id in ids]


@pytest.mark.parametrize("autocommit", [True, False], ids=["autocommit", "transactions"])
def test_on_the_callers_pool_a_missing_day_of_history_is_made(dsn: str, autocommit: bool) -> None:
    partitions = "select count(*) from pg_inherits where inhparent = 'pgq_history'::regclass"
    (days,) = query(dsn, partitions)[0]
    for (name,) in query(dsn, "select inhrelid::regclass::text from pg_inherits where inhparent = 'pgq_history'::regclass"):
        query(dsn, f"drop table {name}")

    with ConnectionPool(dsn, min_size=0, max_size=4, open=True, kwargs={"autocommit": autocommit}) as pool:
        pgq = PgQueuer.from_psycopg_pool(pool, settings=Settings())
        pgq.entrypoint("work")(_do_nothing)
        pgq.enqueue("work")
        assert pgq.drain().counts == {"succeeded": 1}

    assert query(dsn, partitions) == [(days,)]


def _do_nothing(job: Job) -> None:
    """A job without an effect."""
