"""One statement on any connection: psycopg's, Django's or SQLAlchemy's, in whatever transaction it is in.

Every statement uses named parameters and plain values, so that the same text runs on all of them. Neither Django nor
SQLAlchemy is imported here: their connections are told by what they offer.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any, Protocol

import psycopg
from psycopg.pq import PipelineStatus, TransactionStatus
from psycopg.rows import tuple_row

Row = tuple[Any, ...]
Params = Mapping[str, Any]
_encoded = lru_cache(maxsize=256)(str.encode)  # psycopg finds a text that it knows sooner if it is the same object
_ALIAS = re.compile(r"[\w. -]{1,63}")


class Session(Protocol):
    """A connection on which statements run, joining the transaction that it is in."""

    def run(self, sql: str, params: Params | None = None) -> list[Row]:
        """Runs one statement and returns its rows. The driver's errors pass unchanged."""

    @property
    def in_autocommit(self) -> bool:
        """Whether a statement would be a transaction of its own."""


class BoundSession(Session, Protocol):
    """A session on a connection of the caller's."""

    @property
    def driver_connection(self) -> Any:
        """The driver's connection beneath."""

    def undo(self, savepoint: str) -> None:
        """Rolls back to a savepoint and forgets it, also where a statement has failed since."""


class PsycopgSession:
    """A psycopg connection; `prepare` as in psycopg's `execute`."""

    def __init__(self, connection: psycopg.Connection[Any], prepare: bool | None = None) -> None:
        self._connection = connection
        self._prepare = prepare

    def run(self, sql: str, params: Params | None = None) -> list[Row]:
        # Opened explicitly: the caller's cursor factory may not take named parameters.
        with psycopg.Cursor(self._connection, row_factory=tuple_row) as cursor:
            # The annotation of execute() asks for a literal; these texts come from the .sql files.
            cursor.execute(_encoded(sql), params, prepare=self._prepare)
            # Whether there are rows; the cursor's description would be made anew, column by column.
            return cursor.fetchall() if cursor.pgresult and cursor.pgresult.nfields else []

    @property
    def in_autocommit(self) -> bool:
        return self._connection.autocommit and _is_idle(self._connection)

    @property
    def driver_connection(self) -> Any:
        return self._connection

    def undo(self, savepoint: str) -> None:
        self.run(f"rollback to savepoint {savepoint}")
        self.run(f"release savepoint {savepoint}")


class DjangoSession:
    """A Django database connection, whichever driver it uses."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def run(self, sql: str, params: Params | None = None) -> list[Row]:
        with self._connection.cursor() as cursor:
            cursor.execute(sql, params)
            return list(cursor.fetchall()) if cursor.description else []

    @property
    def in_autocommit(self) -> bool:
        return bool(self._connection.get_autocommit()) and _is_idle(self.driver_connection)

    @property
    def driver_connection(self) -> Any:
        return self._connection.connection

    def undo(self, savepoint: str) -> None:
        if self._connection.in_atomic_block:
            self._connection.set_rollback(False)  # else Django itself refuses every statement, this one too
        self.run(f"rollback to savepoint {savepoint}")
        self.run(f"release savepoint {savepoint}")


class SqlAlchemySession:
    """An SQLAlchemy Connection, whichever driver it uses."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def run(self, sql: str, params: Params | None = None) -> list[Row]:
        result = self._connection.exec_driver_sql(sql, dict(params) if params else None)
        return [tuple(row) for row in result] if result.returns_rows else []

    @property
    def in_autocommit(self) -> bool:
        return bool(self.driver_connection.autocommit) and _is_idle(self.driver_connection)

    @property
    def driver_connection(self) -> Any:
        return self._connection.connection.dbapi_connection

    def undo(self, savepoint: str) -> None:
        self.run(f"rollback to savepoint {savepoint}")
        self.run(f"release savepoint {savepoint}")


def bind(connection: Any) -> BoundSession:
    """The session on a connection of any supported kind.

    Args:
        connection: a psycopg connection or cursor, a Django connection or its alias, an SQLAlchemy Session,
            Connection or scoped_session.

    Raises:
        TypeError: it is none of these, or an async one.
        ConnectionError: it is closed.
    """
    connection = accepted(connection)
    if isinstance(connection, psycopg.Connection):
        return PsycopgSession(connection)
    if _is_sqlalchemy_session(connection):
        connection = accepted(_connection_of(connection))
    if hasattr(connection, "exec_driver_sql"):
        _require_postgresql(connection, connection.dialect.name)
        return SqlAlchemySession(connection)
    _require_postgresql(connection, connection.vendor)
    return DjangoSession(connection)


def accepted(connection: Any) -> Any:
    """A connection of a kind that `bind` takes, to whatever database. Nothing is begun on it.

    Returns:
        The connection that an alias or a cursor stands for, else itself.

    Raises:
        TypeError, ConnectionError: as of `bind`.
    """
    if isinstance(connection, str):
        connection = _django_connection(connection)
    if isinstance(connection, psycopg.Cursor):
        connection = connection.connection
    if isinstance(connection, psycopg.Connection):
        _require_open(connection, connection.closed)
        if connection.pgconn.pipeline_status != PipelineStatus.OFF:
            raise TypeError(f"{_kind(connection)} is in pipeline mode, where no answer comes in time: enqueue outside of it")
        return connection
    if _is_async(connection):
        raise TypeError(f"{_kind(connection)} is asynchronous: pgq-sync needs a synchronous connection")
    if hasattr(connection, "exec_driver_sql"):
        _require_open(connection, connection.closed)
    elif not _is_sqlalchemy_session(connection) and not (hasattr(connection, "vendor") and hasattr(connection, "get_autocommit")):
        raise TypeError(
            f"{_kind(connection)} is no connection that pgq-sync knows: pass a psycopg connection or cursor, a Django "
            "connection or its alias, or an SQLAlchemy Session, Connection or scoped_session"
        )
    return connection


def _is_idle(connection: Any) -> bool:
    """Whether a driver's connection is in no transaction: one that was begun by a statement, `autocommit` knows nothing of.

    Args:
        connection: psycopg's or psycopg2's; None: there is none yet.
    """
    return connection is None or bool(connection.info.transaction_status == TransactionStatus.IDLE)


@contextmanager
def atomic(session: Session) -> Iterator[None]:
    """All or nothing for several statements: a transaction of its own in autocommit, else a savepoint."""
    if session.in_autocommit:
        begin, commit, undo = "begin", "commit", ["rollback"]
    else:
        begin, commit = "savepoint pgq_sync", "release savepoint pgq_sync"
        undo = ["rollback to savepoint pgq_sync", commit]
    session.run(begin)
    try:
        yield
    except BaseException:
        # A lost connection takes no statement any more, and needs none: what counts is the error that says how it was lost.
        with suppress(Exception):
            for statement in undo:
                session.run(statement)
        raise
    session.run(commit)


def _django_connection(alias: str) -> Any:
    if not _ALIAS.fullmatch(alias):  # never shown: it may be a DSN, with a password
        raise TypeError(
            "a text that is no alias of a Django connection, as a DSN is none, names no transaction to join: pass an open "
            "connection, as psycopg.connect(dsn) gives one"
        )
    django = sys.modules.get("django.db")
    if django is None:
        raise TypeError(f"{alias!r} would be the alias of a Django connection, but Django is not loaded")
    return django.connections[alias]


def _is_sqlalchemy_session(connection: Any) -> bool:
    return hasattr(connection, "get_bind") and callable(getattr(connection, "connection", None))


def _connection_of(session: Any) -> Any:
    """The connection of an SQLAlchemy Session or scoped_session."""
    try:
        return session.connection()
    except Exception as error:
        if "closed" in str(error):
            raise ConnectionError(f"{_kind(session)} is closed: nothing was enqueued") from error
        raise


def _require_postgresql(connection: Any, database: str) -> None:
    if database != "postgresql":
        raise TypeError(f"{_kind(connection)} is connected to {database}: pgq-sync needs PostgreSQL")


def _is_async(connection: Any) -> bool:
    if isinstance(connection, (psycopg.AsyncConnection, psycopg.AsyncCursor)):
        return True
    # SQLAlchemy's async session and connection keep the synchronous one under these names.
    return any(hasattr(type(connection), name) for name in ("sync_session", "sync_connection")) or any(
        base.__name__ in ("AsyncSession", "AsyncConnection", "async_scoped_session") for base in type(connection).__mro__
    )


def _require_open(connection: Any, closed: bool) -> None:
    if closed:
        raise ConnectionError(f"{_kind(connection)} is closed: nothing was enqueued")


def _kind(connection: Any) -> str:
    return f"{type(connection).__module__}.{type(connection).__qualname__}"
