"""One real server for all tests; for each test a database of its own, cloned from a template with the schema in it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import psycopg
import pytest

from pgq_sync import PgQueuer, Settings
from pgq_sync.testing.databases import create_database, database, drop_database

pytest_plugins = ["pgq_sync.testing.fixtures", "pytester"]


@pytest.fixture(scope="session")
def server(pgq_dsn: str) -> str:
    """The DSN of a PostgreSQL of these tests' own; PGQ_TEST_DSN names another one."""
    return pgq_dsn


@pytest.fixture(scope="session")
def template(pgq_template: str) -> str:
    """The name of a database with the schema in it."""
    return pgq_template


@pytest.fixture
def empty_dsn(server: str) -> Iterator[str]:
    """A database of this test's own, with nothing in it."""
    with database(server, "template0") as dsn:
        yield dsn


@pytest.fixture(scope="session")
def emptied(server: str) -> Iterator[list[str]]:
    """Databases that tests have used and left as they were, but for rows; to clone one takes ten times as long."""
    databases: list[str] = []
    yield databases
    for dsn in databases:
        drop_database(server, dsn)


@pytest.fixture
def dsn(server: str, template: str, emptied: list[str]) -> Iterator[str]:
    """A database of this test's own, with the schema installed."""
    dsn = emptied.pop() if emptied else create_database(server, template)
    before = fingerprint(dsn)
    yield dsn
    if fingerprint(dsn) == before:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(LEAVE)
            connection.execute(EMPTY)
        emptied.append(dsn)
    else:
        drop_database(server, dsn)


LEAVE = "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
EMPTY = "truncate pgq_job, pgq_history, pgq_worker, pgq_schedule, pgq_limit, pgq_cancel, pgq_progress, pgq_watch restart identity"
FINGERPRINT = """
    select md5(string_agg(thing, ',' order by thing)) from (
        select concat(oid, relname, relnamespace, relpersistence, reloptions, relacl, relchecks, relhasrules, relowner)
        from pg_class where oid >= 16384
        union all select concat(oid, prosrc, proconfig, proacl, prosecdef) from pg_proc where oid >= 16384
        union all select concat(oid, tgenabled) from pg_trigger
        union all select concat(indexrelid, indisvalid) from pg_index where indexrelid >= 16384
        union all select concat(attrelid, attnum, attname, attnotnull, atttypid) from pg_attribute where attrelid >= 16384
        union all select concat(oid, pg_get_expr(adbin, adrelid)) from pg_attrdef
        union all select concat(oid, nspname, nspacl) from pg_namespace where nspname not like 'pg%temp%'
        union all select concat(oid, typname) from pg_type where oid >= 16384
        union all select version::text from pgq_version
    ) as things(thing)
"""


def fingerprint(dsn: str) -> object:
    """What a database holds besides rows; tells whether a test has left it as it was."""
    try:
        with psycopg.connect(dsn, autocommit=True) as connection:
            return connection.execute(FINGERPRINT).fetchone()
    except psycopg.Error as error:
        return error


@pytest.fixture
def pgq(dsn: str) -> Iterator[PgQueuer]:
    """An application on PostgreSQL."""
    with PgQueuer.from_dsn(dsn, settings=Settings()) as application:
        yield application


@pytest.fixture(params=["postgres", "memory"])
def either(request: pytest.FixtureRequest) -> Iterator[PgQueuer]:
    """An application on PostgreSQL, and one in memory: what holds for one holds for the other."""
    if request.param == "memory":
        with PgQueuer.in_memory(settings=Settings()) as application:
            yield application
    else:
        yield request.getfixturevalue("pgq")


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own database settings have no say in the tests."""
    for name in list(os.environ):
        if name.startswith("PG") or name == "DATABASE_URL":
            monkeypatch.delenv(name)
