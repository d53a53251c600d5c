"""Turns the driver's errors into those that the engine knows: wait and try again, or a schema that is missing."""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

import psycopg
from psycopg import errors

from pgq_sync.errors import SchemaError, StoreUnavailable
from pgq_sync.storage.names import Names

# Beside them, psycopg's OperationalError: lost connections, deadlocks, time-outs, too little of something, a server that
# shuts down or starts, a pool with no connection to give.
_PASSING = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    errors.ReadOnlySqlTransaction,  # a standby that has not been promoted yet
    errors.IdleInTransactionSessionTimeout,
    errors.TransactionTimeout,
    errors.SnapshotTooOld,
    errors.InvalidSqlStatementName,
    errors.DuplicatePreparedStatement,
)
# By the beginning of the SQLSTATE: for psycopg operational errors too, but of the statement itself, which fails again.
# Triggers, functions and savepoints, limits of the program, settings that cannot be set, new values of an enum.
_LASTING = ("27", "2F", "38", "39", "3B", "54", "55P02", "55P04")
_SCHEMA = (errors.UndefinedTable, errors.UndefinedColumn, errors.UndefinedFunction, errors.InvalidSchemaName)
_MISSING = ("42P01", "42883", "3F000")  # of a table, a function, a schema
# The server is not the one to talk to any more, or has not the prepared statements that psycopg believes in: somebody
# discarded them, or a pooler stands between that hides itself.
_SPOILING = (errors.ReadOnlySqlTransaction, errors.InvalidSqlStatementName, errors.DuplicatePreparedStatement)


class _Reading:
    """Reads the errors of a block. A class and no generator: it is entered several times per job."""

    __slots__ = ("_names",)

    def __init__(self, names: Names) -> None:
        self._names = names

    def __enter__(self) -> None:
        pass


class _Told(_Reading):
    """What `told` returns."""

    __slots__ = ()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if error is not None and _state(error) in _MISSING and self._names.prefix in str(_cause(error)):
            raise SchemaError(_missing(error, self._names)) from error


def told(names: Names) -> AbstractContextManager[None]:
    """For calls of producers and operators, who get all other errors of their driver, whichever it is, unchanged.

    Raises:
        SchemaError: this installation's tables are missing.
    """
    return _Told(names)


def lacking(names: Names) -> str:
    """What to say where this installation's tables are missing."""
    return f"there are no {names.prefix}* tables in {_place(names)} of this database: run `{names.command('install')}`"


class _Translated(_Reading):
    """What `translated` returns."""

    __slots__ = ()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if error is None:
            return
        if isinstance(error, _SCHEMA):
            raise SchemaError(_missing(error, self._names)) from error
        if _passes(error):
            raise StoreUnavailable(str(error).strip() or type(error).__name__) from error


def translated(names: Names) -> AbstractContextManager[None]:
    """For the engine's calls; it may be entered many times.

    Raises:
        StoreUnavailable: the database cannot do it now.
        SchemaError: a table, a column or a function is missing.
    """
    return _Translated(names)


def lacks_partition(error: BaseException) -> bool:
    """Whether a statement failed since history has no partition for the day; the error may be any driver's, as a
    framework hands it on."""
    # A check that a row violates is named; that no partition takes it is the same error without a name.
    return _state(error) == "23514" and not _cause(error).diag.constraint_name


def spoils_connection(error: Exception) -> bool:
    """Whether statements would go on failing on the connection, while they may succeed on a new one."""
    return isinstance(error, _SPOILING) or _has_old_plan(error)


def _missing(error: BaseException, names: Names) -> str:
    place = f"with prefix {names.prefix!r}, in {_place(names)}"
    return f"{str(_cause(error)).splitlines()[0]}, looked for {place}: run `{names.command('install')}`"


def _place(names: Names) -> str:
    return f"schema {names.schema!r}" if names.schema else "the search_path"


def _cause(error: BaseException) -> Any:
    return getattr(error, "orig", None) or error.__cause__ or error


def _state(error: BaseException) -> str | None:
    """The SQLSTATE of an error; None if no server has raised it."""
    cause = _cause(error)
    return getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)


def _passes(error: BaseException) -> bool:
    if isinstance(error, _PASSING):
        return not (error.sqlstate or "").startswith(_LASTING)
    return _has_old_plan(error)


def _has_old_plan(error: BaseException) -> bool:
    """Whether the schema was upgraded under a prepared statement: "cached plan must not change result type"."""
    return isinstance(error, errors.FeatureNotSupported) and error.diag.source_function == "RevalidateCachedQuery"
