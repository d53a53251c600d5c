"""Where connections come from: an own pool, the caller's pool, or the caller's one connection.

What the caller owns is used and never closed. Nothing is opened before it is needed, and nothing is shared with a
forked child. Passwords stay out of every message. A little longer than other files: the three sources answer one protocol,
and are read side by side.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import psycopg
from psycopg_pool import ConnectionPool

from pgq_sync.settings import Settings
from pgq_sync.storage.database import PsycopgSession, Session, bind
from pgq_sync.storage.dsn import complete_dsn, dsn_of_connection, find_dsn, split_options
from pgq_sync.storage.limited import ANSWER_LIMIT, LimitedConnection
from pgq_sync.storage.pools import HandlersPool, LazyPool
from pgq_sync.storage.store import HandlerTransaction
from pgq_sync.storage.transactions import Finish, MakeIntake, PostgresTransaction

# psycopg prepares statements, and a plan made while the table was empty would go on reading all of it when it is
# large. Every statement of ours has an index to use. And where the database's default isolation is a stricter one, rivals
# for the same rows would fail in place of sharing them.
_SESSION = (
    "set timezone to 'UTC'; set enable_seqscan to off; set plan_cache_mode to auto; "
    "set default_transaction_isolation to 'read committed'"
)


_ENGINES = 4  # connections for a worker's threads: one each that writes outcomes, beats, asks for requests and fires schedules


class Connections(Protocol):
    """Gives out sessions for single statements, and direct connections to whoever wants one for itself."""

    def session(self, *, patient: bool = ...) -> AbstractContextManager[Session]:
        """A session on a connection that nobody else uses meanwhile.

        Args:
            patient: wait for answers however long. So does everybody but the engine; and the engine when it enqueues for
                a handler, since a rival's transaction may have to end first.
        """

    def direct(self, *, listening: bool = False) -> psycopg.Connection[Any]:
        """Opens a connection in autocommit, to be closed by the caller.

        Args:
            listening: it is for the listener: where `Settings.listen_dsn` says, and given up when no answer comes.
        """

    def for_engine(self, *, handlers: int = 1) -> EngineConnections:
        """The connections that a worker uses beside its listener's.

        Args:
            handlers: how many of its handlers may have a connection at once.
        """

    def joined(self) -> Any:
        """The caller's connection, if sessions are in a transaction that is open on it; None: they commit at once."""

    def close(self) -> None:
        """Closes what it opened, also by `for_engine`; later use opens again."""


class EngineConnections(Connections, Protocol):
    """A worker's connections. A session gives up a statement to which no answer comes; `close` leaves the source's alone."""

    def transaction(self, intake: MakeIntake, finish: Finish) -> AbstractContextManager[HandlerTransaction]:
        """The transaction of one attempt, on a connection for a handler's own statements.

        Args:
            intake: where to enqueue on a connection.
            finish: writes a completion on a connection.
        """


class OwnPool:
    """A psycopg_pool of our own.

    Args:
        settings: how large it is, and where to connect unless `dsn` says.
        dsn: the database.
        answer_limit: the seconds after which the engine gives up a statement to which no answer comes.
    """

    def __init__(self, settings: Settings, dsn: str | None = None, *, answer_limit: float = ANSWER_LIMIT) -> None:
        self._settings = settings
        self._given_dsn = dsn
        self._answer_limit = answer_limit
        self._pool = self._make_pool("pgq-sync", settings.pool_size)
        # Apart: whoever enqueues may wait for a rival's transaction, for long, and beats and outcomes cannot.
        self._engines = self._make_pool("pgq-sync engine", min(settings.pool_size, _ENGINES))
        self._lent: set[LazyPool] = set()

    def __repr__(self) -> str:
        return "OwnPool()"

    @contextmanager
    def session(self, *, patient: bool = True) -> Iterator[Session]:
        with (self._pool if patient else self._engines).connection() as connection:
            # Set at each use, since a new connection has none.
            connection.answer_limit = None if patient else self._answer_limit
            yield PsycopgSession(connection)

    def direct(self, *, listening: bool = False) -> psycopg.Connection[Any]:
        if listening:
            return connect_listener(self._settings.listen_dsn, lambda: self.dsn, self._answer_limit)
        return connect(self.dsn, "direct")

    def for_engine(self, *, handlers: int = 1) -> PoolEngine:
        return PoolEngine(self, _handlers_pool(handlers, lambda: self.dsn, self._probe), self._lent)

    def joined(self) -> None:
        """The pool is in autocommit."""

    def close(self) -> None:
        self._pool.close()
        self._engines.close()
        _close_all(self._lent)

    @property
    def dsn(self) -> str:
        return find_dsn(self._given_dsn or self._settings.dsn)

    def _make_pool(self, name: str, size: int) -> LazyPool:
        return LazyPool(name, size, lambda: complete_dsn(self.dsn, "pool"), _configure, self._probe)

    def _probe(self) -> None:
        self.direct().close()


class ForeignPool:
    """The caller's psycopg_pool."""

    def __init__(self, pool: ConnectionPool[Any], settings: Settings) -> None:
        self._pool = pool
        self._settings = settings
        self._lent: set[LazyPool] = set()

    @contextmanager
    def session(self, *, patient: bool = True) -> Iterator[Session]:
        # Always patient: only connections of our own class can be told not to be.
        with self._pool.connection() as connection:
            # Not prepared: the session's settings are the caller's, so each plan must fit the table as it is now.
            yield PsycopgSession(connection, prepare=False)

    def direct(self, *, listening: bool = False) -> psycopg.Connection[Any]:
        if listening:
            return connect_listener(self._settings.listen_dsn, lambda: self._parameters()[0], ANSWER_LIMIT)
        return connect(self._parameters()[0], "direct")

    def for_engine(self, *, handlers: int = 1) -> PoolEngine:
        # Handlers get connections of their own, since the caller's pool may be small.
        pool = _handlers_pool(
            handlers,
            lambda: self._parameters()[0],
            lambda: self.direct().close(),
            options=lambda: self._parameters()[1],
            afresh=callable(self._pool.conninfo) or callable(self._pool.kwargs),
        )
        return PoolEngine(self, pool, self._lent)

    def joined(self) -> None:
        """Each session is given back at once."""

    def close(self) -> None:
        """The pool is the caller's."""
        _close_all(self._lent)

    def _parameters(self) -> tuple[str, dict[str, Any]]:
        conninfo, kwargs = self._pool.conninfo, self._pool.kwargs
        return split_options(conninfo() if callable(conninfo) else conninfo, kwargs() if callable(kwargs) else kwargs)


class ForeignConnection:
    """The caller's one psycopg connection; a worker opens others with its parameters."""

    def __init__(self, connection: psycopg.Connection[Any], settings: Settings) -> None:
        self.connection = connection
        self._settings = settings
        self._own: OwnPool | None = None

    @contextmanager
    def session(self, *, patient: bool = True) -> Iterator[Session]:
        if self.connection.closed:
            raise ConnectionError("the psycopg connection is closed: nothing was done")
        yield PsycopgSession(self.connection)

    def direct(self, *, listening: bool = False) -> psycopg.Connection[Any]:
        return self._others().direct(listening=listening)

    def for_engine(self, *, handlers: int = 1) -> PoolEngine:
        return self._others().for_engine(handlers=handlers)

    def joined(self) -> psycopg.Connection[Any] | None:
        return None if bind(self.connection).in_autocommit else self.connection

    def close(self) -> None:
        if self._own is not None:
            self._own.close()

    def _others(self) -> OwnPool:
        if self._own is None:
            self._own = OwnPool(self._settings, dsn_of_connection(self.connection))
        return self._own


class PoolEngine:
    """A worker's connections, with a pool apart for handlers.

    Args:
        source: where all but the handlers' connections come from.
        handlers: the handlers' pool.
        lent: where `source` finds the pools that it closes with its own.
    """

    def __init__(self, source: OwnPool | ForeignPool, handlers: LazyPool, lent: set[LazyPool]) -> None:
        self._source = source
        self._handlers = handlers
        self._lent = lent

    def session(self, *, patient: bool = False) -> AbstractContextManager[Session]:
        return self._source.session(patient=patient)

    def direct(self, *, listening: bool = False) -> psycopg.Connection[Any]:
        return self._source.direct(listening=listening)

    def for_engine(self, *, handlers: int = 1) -> PoolEngine:
        return self._source.for_engine(handlers=handlers)

    def joined(self) -> Any:
        return self._source.joined()

    def transaction(self, intake: MakeIntake, finish: Finish) -> AbstractContextManager[HandlerTransaction]:
        return PostgresTransaction(self.handler, intake, finish)

    def handler(self) -> AbstractContextManager[psycopg.Connection[Any]]:
        """A connection in autocommit for a handler's own statements.

        They come from a pool apart, since a handler may hold one for long, and are reused: what a handler sets by
        `set` stays, what it set on the psycopg object is undone. After an error the connection is closed instead.

        Raises:
            psycopg.OperationalError: none can be had.
        """
        self._lent.add(self._handlers)
        return self._handlers.connection()

    def close(self) -> None:
        self._handlers.close()
        self._lent.discard(self._handlers)


def connect_listener(listen_dsn: str | None, dsn: Callable[[], str], answer_limit: float | None) -> psycopg.Connection[Any]:
    """Opens the listener's connection: where `listen_dsn` says, which errors then name, or else to `dsn`."""
    if listen_dsn is None:
        return connect(dsn(), "listener", answer_limit)
    try:
        return connect(listen_dsn, "listener", answer_limit)
    except psycopg.OperationalError as error:
        raise type(error)(f"listen_dsn: {error}") from error


def connect(dsn: str, role: str, answer_limit: float | None = None) -> psycopg.Connection[Any]:
    """Opens a direct connection in autocommit, configured for our statements.

    Args:
        dsn: where to.
        role: whose it is, for its application_name.
        answer_limit: the seconds after which a statement is given up to which no answer comes; None: never.
    """
    connection = LimitedConnection.connect(complete_dsn(dsn, role), autocommit=True)
    try:
        _configure(connection)
        connection.answer_limit = answer_limit
    except BaseException:
        connection.close()
        raise
    return connection


def pooled(connection: psycopg.Connection[Any]) -> bool:
    """Whether a pooler such as PgBouncer stands between, which gives each transaction any session of the server's.

    On such a connection nothing may be set for the session, prepared or listened to: it would be another client's.
    """
    # A pooler makes up the key by which its clients could cancel.
    rows = PsycopgSession(connection, prepare=False).run("select pg_backend_pid()")
    return bool(rows[0][0] != connection.info.backend_pid)


def require_writable(connection: psycopg.Connection[Any]) -> None:
    """For whoever only asks for long: a server that has become read-only would go on answering, and nothing would come.

    Raises:
        psycopg.errors.ReadOnlySqlTransaction: the server said so with its last answer.
    """
    # PostgreSQL reports both without being asked.
    if "on" in map(connection.info.parameter_status, ("default_transaction_read_only", "in_hot_standby")):
        raise psycopg.errors.ReadOnlySqlTransaction("the server takes no writes any more")


def _configure(connection: LimitedConnection, session: str = _SESSION) -> None:
    connection.answer_limit = ANSWER_LIMIT
    if pooled(connection):
        connection.prepare_threshold = None
    elif session:
        connection.execute(session.encode())
    connection.answer_limit = None


def _handlers_pool(size: int, dsn: Callable[[], str], probe: Callable[[], None], **options: Any) -> HandlersPool:
    configure = functools.partial(_configure, session="")  # handlers' statements are none of ours
    return HandlersPool("pgq-sync handlers", size, lambda: complete_dsn(dsn(), "handler"), configure, probe, **options)


def _close_all(pools: set[LazyPool]) -> None:
    for pool in list(pools):
        pool.close()
