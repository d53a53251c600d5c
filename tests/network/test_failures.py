"""Which errors pass, which last, and after which a connection is not used again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing

import psycopg
import pytest
from psycopg import errors
from psycopg.conninfo import make_conninfo
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from pgq_sync import Settings
from pgq_sync.errors import SchemaError, StoreUnavailable
from pgq_sync.storage.connections import Connections, OwnPool
from pgq_sync.storage.failures import translated
from pgq_sync.storage.names import Names
from tests.storage.support import query
from tests.waiting import wait_until

# By SQLSTATE, what PostgreSQL may say to a statement: https://www.postgresql.org/docs/current/errcodes-appendix.html
PASSING = """
    08000 08001 08003 08004 08006 08007 08P01 25006 25P03 25P04 26000 28000 28P01 40000 40001 40002 40003 40P01 42P05
    53000 53100 53200 53300 53400 55000 55006 55P03 57000 57014 57P01 57P02 57P03 57P04 57P05 58000 58030 58P01 58P02 72000
"""
LASTING = """
    0A000 20000 21000 22000 22003 22021 22P02 22P05 23502 23503 23505 23514 24000 25000 25001 25P01 25P02 27000 2D000
    2F000 2F002 2F003 2F004 2F005 38000 39000 3B000 3B001 3D000 42501 42601 42702 42804 42P02 42P10 44000
    54000 54001 54011 54023 55P02 55P04 P0001 P0004 XX000 XX001 XX002
"""
SCHEMA = "42P01 42703 42883 3F000"


@pytest.mark.parametrize("sqlstate", PASSING.split())
def test_what_passes_is_tried_again(sqlstate: str) -> None:
    with pytest.raises(StoreUnavailable, match="the server's words"), translated(Names()):
        raise errors.lookup(sqlstate)("the server's words")


@pytest.mark.parametrize("sqlstate", LASTING.split())
def test_what_lasts_is_not(sqlstate: str) -> None:
    with pytest.raises(errors.lookup(sqlstate)), translated(Names()):
        raise errors.lookup(sqlstate)("the server's words")


@pytest.mark.parametrize("sqlstate", SCHEMA.split())
def test_what_the_schema_lacks_names_the_command(sqlstate: str) -> None:
    told = (
        "^the server's words, looked for with prefix 'my_', in schema 'shop': run `pgq-sync install --prefix my_ --schema shop`$"
    )
    with pytest.raises(SchemaError, match=told), translated(Names("my_", "shop")):
        raise errors.lookup(sqlstate)("the server's words\nand more of them")


@pytest.mark.parametrize("kind", [psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout, PoolClosed, TooManyRequests])
def test_what_the_driver_says_of_connections_passes(kind: type[Exception]) -> None:
    with pytest.raises(StoreUnavailable, match=kind.__name__), translated(Names()):
        raise kind


def test_what_is_no_error_of_the_database_stays_as_it_is() -> None:
    for error in (ValueError("x"), psycopg.DataError("x"), KeyboardInterrupt()):
        with pytest.raises(type(error)), translated(Names()):
            raise error


@pytest.fixture
def connections(dsn: str) -> Iterator[OwnPool]:
    """A pool of three connections."""
    with closing(OwnPool(Settings(pool_size=3), dsn)) as connections:
        yield connections


READ_ONLY = "set default_transaction_read_only to on"
WRITE = "update pgq_job set priority = 0"


def test_a_pool_whose_server_became_read_only_gets_fresh_connections(connections: OwnPool) -> None:
    engine = connections.for_engine()
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(engine.session()).run(READ_ONLY)
    failures = [cause for _ in range(4) if (cause := _failure(engine, WRITE))]
    assert {type(cause) for cause in failures} == {errors.ReadOnlySqlTransaction}
    # One that fails speaks for all, where the pool can be told so.
    assert len(failures) == (1 if hasattr(ConnectionPool, "drain") else 3)


def _failure(connections: Connections, sql: str) -> BaseException | None:
    try:
        with translated(Names()), connections.session() as session:
            session.run(sql)
    except StoreUnavailable as error:
        return error.__cause__
    return None


def test_a_lost_prepared_statement_costs_one_failure(connections: OwnPool) -> None:
    engine = connections.for_engine()
    for _ in range(10):
        with engine.session() as session:
            session.run("select 7")
    with engine.session() as session:
        session.run("do $$ begin execute 'deallocate all'; end $$")  # in a block, lest psycopg take notice
    _fails_once(connections, "select 7")


def test_a_prepared_statement_outlived_by_its_schema_costs_one_failure(empty_dsn: str) -> None:
    with closing(OwnPool(Settings(pool_size=1), empty_dsn)) as pool:
        query(empty_dsn, "create table theirs (number integer)")
        for _ in range(10):
            with pool.for_engine().session() as session:
                session.run("select number from theirs")
        query(empty_dsn, "alter table theirs alter number type text")
        _fails_once(pool, "select number from theirs")


def _fails_once(connections: OwnPool, sql: str) -> None:
    assert [bool(_failure(connections.for_engine(), sql)) for _ in range(2)] == [True, False]


ENDED = {
    "terminated": ([], errors.AdminShutdown),
    "idle": (["set idle_session_timeout to 10"], errors.IdleSessionTimeout),
    "idle in a transaction": (
        ["set idle_in_transaction_session_timeout to 10", "begin"],
        errors.IdleInTransactionSessionTimeout,
    ),
}


@pytest.mark.parametrize(("before", "cause"), ENDED.values(), ids=ENDED)
def test_a_session_that_the_server_has_ended_is_not_used_again(
    connections: OwnPool, dsn: str, before: list[str], cause: type[psycopg.Error]
) -> None:
    engine = connections.for_engine()
    with pytest.raises(StoreUnavailable) as caught, translated(Names()), engine.session() as session:
        ((pid,),) = session.run("select pg_backend_pid()")
        for statement in before:
            session.run(statement)
        if not before:
            query(dsn, "select pg_terminate_backend(%s)", [pid])
        wait_until(lambda: not query(dsn, "select pid from pg_stat_activity where pid = %s", [pid]))
        session.run("select 1")
    assert isinstance(caught.value.__cause__, cause)
    with engine.session() as session:
        assert session.run("select pg_backend_pid()") != [(pid,)]


def test_time_outs_of_a_statement_pass_and_its_connection_is_used_again(connections: OwnPool, dsn: str) -> None:
    engine = connections.for_engine()
    with engine.session() as session:
        ((pid,),) = session.run("select pg_backend_pid()")
    with closing(psycopg.connect(dsn)) as somebody:
        somebody.execute("lock table pgq_job")
        for setting in ("lock_timeout", "statement_timeout"):
            with pytest.raises(StoreUnavailable), translated(Names()), engine.session() as session:
                session.run("begin")
                session.run(f"set local {setting} to 10")
                session.run("select from pgq_job")
    with engine.session() as session:
        assert session.run("select pg_backend_pid()") == [(pid,)]


def test_a_server_that_is_not_there_passes(dsn: str) -> None:
    nowhere = make_conninfo(dsn, host="127.0.0.1", port=1)
    assert _failure(OwnPool(Settings(), nowhere).for_engine(), "select 1")
