"""Turns the driver's errors into those that the engine knows: wait and try again, or a schema that is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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


@contextmanager
def translated() -> Iterator[None]:
    """For the engine's calls; producers get the driver's errors unchanged.

    Raises:
        StoreUnavailable: the database cannot do it now.
        SchemaError: a table is missing.
    """
    try:
        yield
    except psycopg.errors.UndefinedTable as error:
        raise SchemaError(f"{str(error).splitlines()[0]}: run `pgq-sync install`") from error
    except _LASTING:
        raise
    except _PASSING as error:
        raise StoreUnavailable(str(error).strip() or type(error).__name__) from error
