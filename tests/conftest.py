"""One real server for all tests; for each test a database of its own, cloned from a template with the schema in it."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgq_sync import PgQueuer, Settings
from pgq_sync.storage.embedded import embedded_postgres

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The DSN of a PostgreSQL of these tests' own; PGQ_TEST_DSN names another one."""
    if given := os.environ.get("PGQ_TEST_DSN"):
        yield given
        return
    directory = Path(tempfile.mkdtemp(prefix="pgq-sync-tests-"))
    directory.chmod(0o755)
    try:
        with embedded_postgres(directory / "data") as dsn:
            # Nothing here outlives a crash of the machine.
            with psycopg.connect(dsn, autocommit=True) as connection:
                for setting in ("fsync", "full_page_writes", "synchronous_commit"):
                    connection.execute(f"alter system set {setting} to off".encode())
                connection.execute("select pg_reload_conf()")
            yield dsn
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def database(server: str, template: str) -> Iterator[str]:
    """The DSN of a new database made from `template`, dropped at the end."""
    name = f"pgq_test_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"create database {name} template {template}".encode())
    try:
        yield make_conninfo(server, dbname=name)
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"drop database {name} with (force)".encode())


@pytest.fixture(scope="session")
def template(server: str) -> Iterator[str]:
    """The name of a database with the schema in it."""
    with database(server, "template0") as dsn:
        with PgQueuer.from_dsn(dsn, settings=Settings()) as pgq:
            pgq.schema.install()
        yield str(conninfo_to_dict(dsn)["dbname"])


@pytest.fixture
def empty_dsn(server: str) -> Iterator[str]:
    """A database of this test's own, with nothing in it."""
    with database(server, "template0") as dsn:
        yield dsn


@pytest.fixture
def dsn(server: str, template: str) -> Iterator[str]:
    """A database of this test's own, with the schema installed."""
    with database(server, template) as dsn:
        yield dsn


@pytest.fixture
def pgq(dsn: str) -> Iterator[PgQueuer]:
    """An application on PostgreSQL."""
    with PgQueuer.from_dsn(dsn, settings=Settings()) as application:
        yield application


@pytest.fixture(params=["postgres", "memory"])
def either(request: pytest.FixtureRequest) -> Iterator[PgQueuer]:
    """An application on PostgreSQL, and one in memory: what holds for one holds for the other."""
    if request.param == "memory":
        yield PgQueuer.in_memory(settings=Settings())
    else:
        yield request.getfixturevalue("pgq")


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own database settings have no say in the tests."""
    for name in list(os.environ):
        if (name.startswith(("PGQ_", "PG")) and name != "PGQ_TEST_DSN") or name == "DATABASE_URL":
            monkeypatch.delenv(name)
