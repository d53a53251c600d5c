"""The queue within one open transaction of somebody else's: for tests that roll it back at their end.

Nothing here connects, listens, locks for longer than the transaction, or commits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import TracebackType
from typing import Any

import psycopg

from pgq_sync.errors import ConfigError
from pgq_sync.models import Settlement
from pgq_sync.storage.connections import EngineConnections
from pgq_sync.storage.database import BoundSession, Session, bind
from pgq_sync.storage.names import Names
from pgq_sync.storage.postgres import PostgresStore
from pgq_sync.storage.store import OWN, Clock, HandlerTransaction, Intake
from pgq_sync.storage.transactions import Finish, MakeIntake

Transact = Callable[[Any, Callable[[], AbstractContextManager[Intake]]], AbstractContextManager[HandlerTransaction]]


class JoinedConnections:
    """The caller's connection in place of all others.

    Args:
        connection: of any kind that `PgQueuer.on` takes.
        transact: makes the handlers' transactions on it; None: they are psycopg's.
    """

    def __init__(self, connection: Any, transact: Transact | None = None) -> None:
        self._connection = connection
        self._transact = transact or (lambda connection, intake: JoinedTransaction(self.bound(), intake))

    def bound(self) -> BoundSession:
        """The session on it.

        Raises:
            ValueError: it is in autocommit.
        """
        session = bind(self._connection)
        if session.in_autocommit:
            raise ValueError(
                "the connection is in autocommit, and has no transaction to work in: open one "
                "(with connection.transaction(), atomic() or begin()), or give no connection"
            )
        return session

    @contextmanager
    def session(self, *, patient: bool = True) -> Iterator[Session]:
        session = self.bound()
        with savepoint(session, "pgq_sync_step"):  # what fails leaves the transaction usable
            yield session

    def direct(self, *, listening: bool = False) -> psycopg.Connection[Any]:
        raise ConfigError("a transaction of a test's own has room for no worker: use pgq_sync.testing.drain in its place")

    def for_engine(self, *, handlers: int = 1) -> EngineConnections:
        return self

    def transaction(self, intake: MakeIntake, finish: Finish) -> AbstractContextManager[HandlerTransaction]:
        return self._transact(self._connection, lambda: intake(OWN))

    def joined(self) -> Any:
        return self._connection

    def close(self) -> None:
        """The connection is the caller's."""


class JoinedStore(PostgresStore):
    """The store in the transaction that the caller's connection is in."""

    def __init__(self, connections: JoinedConnections, names: Names, clock: Clock) -> None:
        super().__init__(connections, names, clock)
        self._joined = connections

    def for_engine(self, *, handlers: int = 1) -> JoinedStore:
        return self

    def require_schema(self) -> None:
        self._joined.direct()

    @contextmanager
    def sheltered(self) -> Iterator[None]:
        session = self._joined.bound()
        session.run("savepoint pgq_sync_attempt")
        try:
            yield
        finally:
            try:
                session.run("release savepoint pgq_sync_attempt")
            except Exception:
                # A statement of the handler's has failed: PostgreSQL takes no other before that is undone.
                session.undo("pgq_sync_attempt")


class JoinedTransaction:
    """A handler's transaction as a savepoint in the caller's, in which its completion is written afterwards, as others' are."""

    since: float | None = None

    def __init__(self, session: BoundSession, intake: Callable[[], AbstractContextManager[Intake]]) -> None:
        self._session = session
        self._intake = intake
        self._begun = ExitStack()

    def __enter__(self) -> JoinedTransaction:
        connection = self._session.driver_connection
        own = isinstance(connection, psycopg.Connection)
        # psycopg's own, in which the handler can neither commit nor roll back by itself.
        self._begun.enter_context(connection.transaction() if own else savepoint(self._session, "pgq_sync_handler"))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._begun.__exit__(kind, error, traceback)

    def open(self) -> psycopg.Connection[Any]:
        return psycopg_connection(self._session)

    def intake(self) -> AbstractContextManager[Intake]:
        return self._intake()

    def finish(self, settlement: Settlement) -> bool:
        raise RuntimeError("a joined transaction is not the handler's to finish")

    def cancel(self) -> None:
        """A query of the caller's connection is not cut off: the next one would be hit."""

    def discard(self) -> None:
        """The connection is the caller's."""


@contextmanager
def savepoint(session: BoundSession, name: str) -> Iterator[None]:
    """Undoes what was done on the session meanwhile if it raises."""
    session.run(f"savepoint {name}")
    try:
        yield
    except BaseException:
        session.undo(name)
        raise
    session.run(f"release savepoint {name}")


def psycopg_connection(session: BoundSession) -> psycopg.Connection[Any]:
    """The psycopg connection beneath a session.

    Raises:
        RuntimeError: another driver is.
    """
    connection = session.driver_connection
    if not isinstance(connection, psycopg.Connection):
        kind = type(connection).__module__
        raise RuntimeError(f"context.connection is a psycopg connection, and the one that the test gave is of {kind}")
    return connection
