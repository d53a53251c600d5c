"""Another place for an application's jobs, for the length of a block: what its functions enqueue lands there.

Everything that uses the PgQueuer meanwhile, in any thread of the process, finds it there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from pgq_sync.app import PgQueuer
from pgq_sync.settings import Settings
from pgq_sync.storage.backend import Backend
from pgq_sync.storage.connections import OwnPool
from pgq_sync.storage.joined import JoinedConnections, JoinedStore
from pgq_sync.storage.store import Store


def in_memory(pgq: PgQueuer, *, settings: Settings | None = None) -> AbstractContextManager[PgQueuer]:
    """Has `pgq` keep its jobs in a fresh memory for the length of a block.

    At its end workers that were made within and still run are stopped, in good order, before `pgq` has its own place again:
    also where the block raises, or stands in another one.

    Args:
        pgq: the application.
        settings: by default its own.

    Returns:
        A context manager that gives `pgq`.
    """
    return _elsewhere(pgq, Backend(None, settings or pgq.settings, pgq.backend.clock))


def on_database(pgq: PgQueuer, dsn: str, *, settings: Settings | None = None) -> AbstractContextManager[PgQueuer]:
    """Has `pgq` use another database for the length of a block, which ends as that of `in_memory` does.

    Args:
        pgq: the application.
        dsn: of the database, in which the tables are installed: within the block, `pgq.schema.install()` does it.
        settings: by default its own, but for `listen_dsn`.

    Returns:
        A context manager that gives `pgq`.
    """
    chosen = settings or pgq.settings.replace(listen_dsn=None)
    return _elsewhere(pgq, Backend(lambda settings: OwnPool(settings, dsn), chosen, pgq.backend.clock))


@contextmanager
def on_connection(pgq: PgQueuer, connection: Any) -> Iterator[PgQueuer]:
    """Has `pgq` do everything in the transaction that a connection is in, for the length of a block.

    What it enqueues, looks up, claims and finishes meanwhile is never committed by it, and is gone if the test rolls back.
    No worker runs there: `drain` does the jobs, in the calling thread. In memory the connection changes nothing.

    Args:
        pgq: the application.
        connection: a psycopg connection or cursor, a Django connection or its alias, an SQLAlchemy Session, Connection or
            scoped_session, in a transaction.

    Raises:
        TypeError: it is none of these, or an async one.
        ConnectionError: it is closed.
        ValueError: it is in autocommit.
    """
    if not pgq.backend.has_database:
        yield pgq
        return
    with _elsewhere(pgq, _JoinedBackend(connection, pgq.backend)):
        yield pgq


def where(pgq: PgQueuer, connection: Any) -> AbstractContextManager[object]:
    """Where a call works: on `connection`; without one on the PgQueuer's own, in whatever transaction that is in."""
    if connection is None and pgq.backend.has_database:
        connection = pgq.backend.connections.joined()
    return nullcontext() if connection is None else on_connection(pgq, connection)


class _JoinedBackend(Backend):
    """The place in a transaction of the caller's."""

    def __init__(self, connection: Any, before: Backend) -> None:
        self.transact = before.transact
        self._joined = JoinedConnections(connection, before.transact)
        self._joined.bound()  # a connection that cannot be used is told at once
        super().__init__(lambda settings: self._joined, before.settings, before.clock)

    def make_store(self) -> Store:
        return JoinedStore(self._joined, self.names, self.clock)


@contextmanager
def _elsewhere(pgq: PgQueuer, backend: Backend) -> Iterator[PgQueuer]:
    before, pgq.backend = pgq.backend, backend
    try:
        yield pgq
    finally:
        try:
            backend.stop_workers()  # first: what their last jobs enqueue belongs there too
        finally:
            pgq.backend = before
            backend.close()
