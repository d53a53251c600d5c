"""Turns the driver's errors into those that the engine knows: wait and try again, or a schema that is missing."""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

import psycopg
from psycopg_pool import PoolClosed, PoolTimeout

from pgq_sync.errors import SchemaError, StoreUnavailable

# A read-only server is a standby that has not been promoted yet.
_PASSING = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.ReadOnlySqlTransaction,
    psycopg.errors.IdleInTransactionSessionTimeout,
    PoolTimeout,
    PoolClosed,
)
# Operational errors by psycopg's classes, but of the statement itself: it will fail again.
_LASTING = (psycopg.errors.ProgramLimitExceeded, psycopg.errors.StatementTooComplex)


class _Translated:
    """What `translated` returns. A class and no generator: the listener enters it several times per job."""

    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if isinstance(error, psycopg.errors.UndefinedTable):
            raise SchemaError(f"{str(error).splitlines()[0]}: run `pgq-sync install`") from error
        if isinstance(error, _PASSING) and not isinstance(error, _LASTING):
            raise StoreUnavailable(str(error).strip() or type(error).__name__) from error


_translated = _Translated()


def translated() -> AbstractContextManager[None]:
    """For the engine's calls; producers get the driver's errors unchanged.

    Raises:
        StoreUnavailable: the database cannot do it now.
        SchemaError: a table is missing.
    """
    return _translated


def lacks_partition(error: BaseException) -> bool:
    """Whether a statement failed since history has no partition for the day; the error may be any driver's, as a
    framework hands it on."""
    cause: Any = getattr(error, "orig", None) or error.__cause__ or error
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    # A check that a row violates is named; that no partition takes it is the same error without a name.
    return bool(state == "23514" and not cause.diag.constraint_name)
