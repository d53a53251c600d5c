"""A network that swallows every byte and keeps the connections open: the engine gives up in time, and producers never."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgq_sync import Context, Job, PgQueuer, Settings
from pgq_sync.errors import StoreUnavailable
from pgq_sync.storage.connections import Connections, OwnPool
from pgq_sync.storage.dsn import complete_dsn
from pgq_sync.storage.failures import translated
from pgq_sync.storage.names import Names
from pgq_sync.storage.postgres import PostgresStore
from tests.network.proxy import Proxy
from tests.storage.support import hand, query, wait_until_blocked_by
from tests.waiting import PATIENCE, wait_until

LIMIT = 0.3  # seconds
SLEEPING = "select count(*) from pg_stat_activity where datname = current_database() and query like 'select pg_sleep%'"


@pytest.fixture
def connections(proxy: Proxy) -> Iterator[OwnPool]:
    """Through the proxy, with one connection in the pool, which the engine gives up soon."""
    with closing(OwnPool(Settings(pool_size=1), proxy.dsn, answer_limit=LIMIT)) as connections:
        yield connections


@pytest.mark.parametrize("payload", [b"", bytes(20_000_000)], ids=["unanswered", "not even sent"])
def test_a_swallowed_statement_of_the_engine_ends_in_store_unavailable(
    connections: OwnPool, proxy: Proxy, payload: bytes
) -> None:
    engine = connections.for_engine()
    with translated(Names()), engine.session() as session:
        session.run("select 1")
    proxy.swallow()
    started = time.monotonic()
    silence = r"no answer from the server within 0\.3 s"
    with pytest.raises(StoreUnavailable, match=silence), translated(Names()), engine.session() as session:
        session.run("select length(%(payload)s::bytea)", {"payload": payload})
    assert time.monotonic() - started < PATIENCE

    proxy.restore()
    with engine.session() as session:
        assert session.run("select 1") == [(1,)]


def test_a_transaction_that_is_swallowed_ends_in_store_unavailable(connections: OwnPool, proxy: Proxy) -> None:
    with pytest.raises(StoreUnavailable), translated(Names()), connections.for_engine().session() as session:
        session.run("begin")
        proxy.swallow()
        session.run("commit")
    proxy.restore()


def test_a_swallowed_claim_ends_in_store_unavailable(connections: OwnPool, proxy: Proxy) -> None:
    store = PostgresStore(connections, Names())
    with hand(store, "work") as one:
        assert one.claim() == []
        proxy.swallow()
        with pytest.raises(StoreUnavailable, match="no answer"):
            one.claim()
    proxy.restore()


def test_a_worker_goes_on_after_everything_was_swallowed_for_a_while(connections: OwnPool, proxy: Proxy, dsn: str) -> None:
    jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
    pgq = PgQueuer(lambda settings: connections, Settings(), None)
    pgq.entrypoint("work")(jobs.put)
    with pgq.worker(poll_interval=timedelta(milliseconds=50), beat_interval=timedelta(milliseconds=50)) as running:
        assert running.listening.wait(PATIENCE)
        proxy.swallow()
        wait_until(lambda: not running.listening.is_set())
        proxy.restore()
        query(dsn, "insert into pgq_job (entrypoint) values ('work')")
        assert jobs.get(timeout=PATIENCE)
    assert query(dsn, "select status from pgq_history") == [("succeeded",)]


@pytest.mark.skipif(not psycopg.capabilities.has_cancel_safe(), reason="libpq can give up a cancellation from version 17 on")
def test_what_is_given_up_does_not_go_on_in_the_server(connections: OwnPool, dsn: str) -> None:
    with pytest.raises(psycopg.OperationalError), connections.for_engine().session() as session:
        session.run("select pg_sleep(600)")
    wait_until(lambda: query(dsn, SLEEPING) == [(0,)])


def test_an_answer_that_takes_long_but_flows_is_waited_for(connections: OwnPool) -> None:
    with connections.for_engine().session() as session:
        rows = session.run("select repeat('x', 20000), pg_sleep(0.1) from generate_series(1, 6)")
    assert len(rows) == 6


def test_producers_and_schema_changes_wait_as_long_as_it_takes(connections: OwnPool) -> None:
    with connections.session() as session:
        assert session.run("select 1 from pg_sleep(1)") == [(1,)]
    with closing(connections.direct()) as connection:
        connection.execute("select pg_sleep(1)")


def test_a_handler_that_enqueues_waits_for_its_rival(connections: OwnPool, dsn: str) -> None:
    pgq = PgQueuer(lambda settings: connections, Settings(), None)

    @pgq.entrypoint("parent")
    def parent(job: Job, context: Context) -> None:
        context.enqueue("child", dedupe_key="one", on_conflict="skip")

    with psycopg.connect(dsn) as rival, pgq.worker():
        rival.execute("insert into pgq_job (entrypoint, dedupe_key, dedupe_until) values ('child', 'one', 'finished')")
        pgq.enqueue("parent")
        wait_until_blocked_by(dsn, rival.info.backend_pid)
        time.sleep(3 * LIMIT)  # what the engine's own statements would not wait for
        rival.commit()
        wait_until(lambda: pgq.jobs.count() == {("child", "queued"): 1, ("parent", "succeeded"): 1})


def test_waiting_for_notifications_is_no_silence(connections: OwnPool, dsn: str) -> None:
    with closing(connections.direct(listening=True)) as connection:
        connection.execute("listen something")
        assert list(connection.notifies(timeout=3 * LIMIT)) == []
        query(dsn, "notify something")
        assert [each.channel for each in connection.notifies(timeout=PATIENCE, stop_after=1)] == ["something"]


def test_a_new_connection_that_is_swallowed_is_given_up(connections: OwnPool, proxy: Proxy) -> None:
    proxy.swallow()
    impatient = make_conninfo(connections.dsn, connect_timeout=2)
    with pytest.raises(StoreUnavailable), translated(Names()), OwnPool(Settings(), impatient).for_engine().session():
        pass
    proxy.restore()


def test_a_server_that_comes_back_is_found_at_the_next_try(
    connections: OwnPool, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgq_sync.storage.pools._TIMEOUT", 0.4)
    monkeypatch.setattr("pgq_sync.storage.pools._TRY", 0.2)
    engine = connections.for_engine()
    assert _works(engine)
    proxy.refuse()
    proxy.cut()
    # By itself, the pool would try after a second, and then two seconds later.
    assert not any(_works(engine) for _ in range(4))
    proxy.restore()
    assert _works(engine)


def _works(connections: Connections) -> bool:
    try:
        with connections.session() as session:
            return session.run("select 1") == [(1,)]
    except psycopg.OperationalError:
        return False


def test_a_peer_that_vanished_is_noticed_by_the_system(dsn: str) -> None:
    parameters = conninfo_to_dict(complete_dsn(dsn, "test"))
    assert int(parameters["tcp_user_timeout"] or 0) == 20_000
    assert conninfo_to_dict(complete_dsn(make_conninfo(dsn, tcp_user_timeout=5), "test"))["tcp_user_timeout"] == "5"
