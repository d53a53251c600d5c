"""Fixtures of the storage tests: both stores on a clock that tests can move, and roles of few rights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from pgq_sync import Settings
from pgq_sync.storage.connections import OwnPool
from pgq_sync.storage.memory.store import MemoryStore
from pgq_sync.storage.names import Names
from pgq_sync.storage.postgres import PostgresStore
from pgq_sync.storage.producer import Producer
from pgq_sync.storage.store import Store
from tests.storage.roles import Role, granted
from tests.storage.support import MovableClock


@dataclass(frozen=True)
class Timed:
    """A store whose time is the clock's."""

    store: Store
    clock: MovableClock
    producer: Producer
    dsn: str | None  # of its database, if it has one


@pytest.fixture(params=["postgres", "memory"])
def timed(request: pytest.FixtureRequest) -> Iterator[Timed]:
    """A store on PostgreSQL, and one in memory, on a clock that stands still until it is moved."""
    clock = MovableClock()
    dsn = None if request.param == "memory" else request.getfixturevalue("dsn")
    store: Store = PostgresStore(OwnPool(Settings(), dsn), Names(), clock) if dsn else MemoryStore(clock)
    yield Timed(store, clock, Producer(lambda: store.intake(), Settings, lambda entrypoint: None), dsn)
    store.close()


@pytest.fixture(params=[None, "Our Jobs"], ids=["public", "a schema"])
def place(request: pytest.FixtureRequest) -> Settings:
    """Where the tables are."""
    return Settings(schema=request.param)


@pytest.fixture
def producer(empty_dsn: str, place: Settings) -> Iterator[Role]:
    """A role that may enqueue."""
    with granted(empty_dsn, place, "producer") as role:
        yield role


@pytest.fixture
def runner(empty_dsn: str, place: Settings) -> Iterator[Role]:
    """A role that may run jobs."""
    with granted(empty_dsn, place, "worker") as role:
        yield role


@pytest.fixture
def onlooker(empty_dsn: str, place: Settings) -> Iterator[Role]:
    """A role that may wait for jobs."""
    with granted(empty_dsn, place, "watcher") as role:
        yield role


@pytest.fixture
def operator(empty_dsn: str, place: Settings) -> Iterator[Role]:
    """A role that may look after jobs."""
    with granted(empty_dsn, place, "operator") as role:
        yield role
