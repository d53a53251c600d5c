"""Connections for handlers: from a pool apart, plain, clean, and never used again after an error. On each kind of source."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import psycopg
import pytest
from psycopg import IsolationLevel
from psycopg.rows import dict_row, tuple_row
from psycopg_pool import ConnectionPool

from pgq_sync import Context, Job, NewJob, PgQueuer, Settings
from pgq_sync.storage.connections import ForeignConnection, ForeignPool, OwnPool
from tests.network.proxy import Proxy
from tests.storage.support import query
from tests.storage.support import waiting as locks_waited_for
from tests.waiting import PATIENCE, wait_until

OPEN = "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'pgq-sync handler'"
PLAIN = ("timezone", "enable_seqscan", "plan_cache_mode", "synchronous_commit", "search_path")


@contextmanager
def _own(dsn: str) -> Iterator[Source]:
    yield OwnPool(Settings(pool_size=1), dsn)


@contextmanager
def _foreign_pool(dsn: str) -> Iterator[Source]:
    with ConnectionPool(dsn, min_size=0, max_size=1, open=True) as pool:
        yield ForeignPool(pool, Settings())


@contextmanager
def _foreign_connection(dsn: str) -> Iterator[Source]:
    with closing(psycopg.connect(dsn)) as connection:
        yield ForeignConnection(connection, Settings(pool_size=1))


Source = OwnPool | ForeignPool | ForeignConnection
SOURCES: dict[str, Callable[[str], Any]] = {
    "own pool": _own,
    "caller's pool": _foreign_pool,
    "caller's connection": _foreign_connection,
}


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest, dsn: str) -> Iterator[Source]:
    """Where connections come from, with one connection for the engine's sessions."""
    with SOURCES[request.param](dsn) as source:
        yield source
        source.close()


def test_a_handler_gets_a_plain_connection_in_autocommit(source: Source, dsn: str) -> None:
    engine = source.for_engine()
    assert query(dsn, OPEN) == [(0,)]
    with engine.handler() as connection, closing(psycopg.connect(dsn)) as other:
        assert connection.autocommit
        for name in PLAIN:
            assert connection.execute(f"show {name}").fetchone() == other.execute(f"show {name}").fetchone(), name
        with connection.transaction():
            connection.execute("insert into pgq_job (entrypoint) values ('work')")
            assert query(dsn, "select count(*) from pgq_job") == [(0,)]
        assert query(dsn, "select count(*) from pgq_job") == [(1,)]
    assert query(dsn, OPEN) == [(1,)]


def test_handlers_leave_the_engine_its_connections(source: Source) -> None:
    engine = source.for_engine(handlers=3)
    with ExitStack() as stack:
        pids = {_pid(stack.enter_context(engine.handler())) for _ in range(3)}
        with engine.session() as session:
            pids |= {session.run("select pg_backend_pid()")[0][0]}
        assert len(pids) == 4


def test_one_handler_more_than_there_are_connections_waits(source: Source, dsn: str) -> None:
    engine = source.for_engine(handlers=1)
    waiting, got = threading.Event(), threading.Event()

    def another() -> None:
        waiting.set()
        with engine.handler():
            got.set()

    thread = threading.Thread(target=another)
    with engine.handler():
        thread.start()
        assert waiting.wait(PATIENCE)
        assert not got.wait(0.2)
        assert query(dsn, OPEN) == [(1,)]
    assert got.wait(PATIENCE)
    thread.join()


def test_a_connection_is_used_again_as_it_was(source: Source) -> None:
    engine = source.for_engine()
    with engine.handler() as connection:
        pid = _pid(connection)
        connection.row_factory = dict_row
        connection.prepare_threshold = 0
        connection.isolation_level = IsolationLevel.SERIALIZABLE
        connection.autocommit = False
        connection.execute("insert into pgq_job (entrypoint) values ('work')")
    with engine.handler() as connection:
        assert _pid(connection) == pid
        assert connection.autocommit
        assert connection.row_factory is tuple_row
        assert connection.prepare_threshold == 5
        assert connection.isolation_level is None
        # What was open was committed, as psycopg's pools have it.
        assert connection.execute("select count(*) from pgq_job").fetchone() == (1,)


class Interruption(BaseException):
    """As it may be raised in a thread from elsewhere."""


@pytest.mark.parametrize("error", [ValueError, Interruption])
def test_after_an_error_a_connection_is_closed_and_rolled_back(source: Source, dsn: str, error: type[BaseException]) -> None:
    engine = source.for_engine()
    with pytest.raises(error), engine.handler() as connection:
        pid = _pid(connection)
        connection.execute("begin")
        connection.execute("insert into pgq_job (entrypoint) values ('work')")
        raise error
    assert connection.closed
    wait_until(lambda: not query(dsn, "select pid from pg_stat_activity where pid = %s", [pid]))
    with engine.handler() as connection:
        assert _pid(connection) != pid
        assert connection.execute("select count(*) from pgq_job").fetchone() == (0,)


def test_a_handler_may_close_its_connection(source: Source) -> None:
    engine = source.for_engine()
    with engine.handler() as connection:
        connection.close()
    with engine.handler() as connection:
        assert _pid(connection)


@pytest.mark.parametrize("closing_one", ["engine", "source"])
def test_close_closes_the_handlers_pool_and_later_use_opens_it_again(source: Source, dsn: str, closing_one: str) -> None:
    engine = source.for_engine()
    for _ in range(2):
        with engine.handler() as connection:
            _pid(connection)
        assert query(dsn, OPEN) == [(1,)]
        {"engine": engine, "source": source}[closing_one].close()
        wait_until(lambda: query(dsn, OPEN) == [(0,)])


def test_closing_an_engine_leaves_the_sources_own_pool_open(dsn: str) -> None:
    with closing(OwnPool(Settings(pool_size=1), dsn)) as source:
        with source.session() as session:
            before = session.run("select pg_backend_pid()")
        source.for_engine().close()
        with source.session() as session:
            assert session.run("select pg_backend_pid()") == before


def test_a_handlers_statement_may_take_as_long_as_it_likes(dsn: str) -> None:
    with closing(OwnPool(Settings(), dsn, answer_limit=0.2)) as source, source.for_engine().handler() as connection:
        connection.execute("select pg_sleep(0.8)")


@pytest.fixture
def callers(dsn: str) -> Iterator[Callable[..., ForeignPool]]:
    """Makes a source on a pool of the caller's, which connects as it is told."""
    with ExitStack() as stack:

        def make(conninfo: Any, **options: Any) -> ForeignPool:
            pool = stack.enter_context(ConnectionPool(conninfo, min_size=0, max_size=1, open=True, kwargs=options))
            return stack.enter_context(closing(ForeignPool(pool, Settings())))

        yield make


def test_a_handlers_rows_come_as_the_callers_pool_has_them(callers: Callable[..., ForeignPool], dsn: str) -> None:
    with callers(dsn, row_factory=dict_row, autocommit=False).for_engine().handler() as connection:
        assert connection.execute("select 1 as one").fetchone() == {"one": 1}
        assert connection.autocommit


@pytest.mark.skipif(not hasattr(ConnectionPool, "drain"), reason="psycopg_pool can do that from 3.3 on")
def test_a_pool_whose_dsn_changes_is_asked_for_each_connection(
    callers: Callable[..., ForeignPool], dsn: str, proxy: Proxy
) -> None:
    where = dsn
    engine = callers(lambda: where).for_engine(handlers=2)
    with engine.handler() as one:
        where = proxy.dsn
        with engine.handler() as two:
            assert one.info.port != two.info.port
            assert two.info.host == "127.0.0.1"


def test_a_forked_child_has_connections_of_its_own(dsn: str) -> None:
    script = (
        "import os, sys, warnings\n"
        "from pgq_sync import Settings\n"
        "from pgq_sync.storage.connections import OwnPool\n"
        "warnings.simplefilter('ignore')\n"
        "engine = OwnPool(Settings(), sys.argv[1]).for_engine()\n"
        "def pids():\n"
        "    with engine.handler() as one, engine.session() as two:\n"
        "        return one.execute('select pg_backend_pid()').fetchone()[0], two.run('select pg_backend_pid()')[0][0]\n"
        "before = pids()\n"
        "child = os.fork()\n"
        "after = pids()\n"
        "if child:\n"
        "    assert os.waitpid(child, 0)[1] == 0\n"
        "    assert after == before, (before, after)\n"
        "else:\n"
        "    os._exit(0 if set(after).isdisjoint(before) else 1)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, dsn], timeout=PATIENCE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _pid(connection: psycopg.Connection[Any]) -> int:
    return connection.info.backend_pid


def test_handlers_that_wait_for_a_rival_do_not_keep_outcomes_from_being_written(dsn: str) -> None:
    waiting = threading.Semaphore(0)
    with PgQueuer.from_dsn(dsn, settings=Settings(pool_size=2)) as pgq, psycopg.connect(dsn) as rival:

        @pgq.entrypoint("asks")
        def asks(job: Job, context: Context) -> None:
            waiting.release()
            context.enqueue("later", dedupe_key="one", on_conflict="existing")

        pgq.entrypoint("quick")(lambda job: None)
        pgq.on(rival).enqueue("later", dedupe_key="one")
        pgq.enqueue_many(NewJob(entrypoint="asks") for _ in range(2))
        with pgq.worker(concurrency=3) as worker:
            for _ in range(2):
                assert waiting.acquire(timeout=PATIENCE)
            wait_until(lambda: locks_waited_for(dsn) == 2)
            query(dsn, "insert into pgq_job (entrypoint) values ('quick')")
            wait_until(lambda: query(dsn, "select status from pgq_history") == [("succeeded",)])
            rival.rollback()
        assert worker.stop().counts == {"succeeded": 3}
