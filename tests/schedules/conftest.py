"""An application on a clock that stands still until it is moved, on both stores."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pgq_sync import Settings
from pgq_sync.storage.connections import OwnPool
from pgq_sync.storage.memory.store import MemoryStore
from pgq_sync.storage.names import Names
from pgq_sync.storage.postgres import PostgresStore
from pgq_sync.storage.store import Store
from tests.schedules.support import Timed


@pytest.fixture(params=["postgres", "memory"])
def timed(request: pytest.FixtureRequest) -> Iterator[Timed]:
    """An application, and the stores that its other processes would have."""
    stores: list[Store] = []
    dsn = request.getfixturevalue("dsn") if request.param == "postgres" else None
    shared = MemoryStore(lambda: made.now)

    def open_store() -> Store:
        stores.append(shared if dsn is None else PostgresStore(OwnPool(Settings(dsn=dsn)), Names(), clock=lambda: made.now))
        return stores[-1]

    made = Timed(open_store, dsn)
    yield made
    for store in stores:
        store.close()
