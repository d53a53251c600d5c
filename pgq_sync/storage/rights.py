"""What is said where the database's user lacks a right. Only then is a connection opened, to learn who that is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

import psycopg

from pgq_sync.errors import SchemaError
from pgq_sync.storage.connections import Connections
from pgq_sync.storage.names import Names


@contextmanager
def rights_told(connections: Connections, names: Names) -> Iterator[None]:
    """For whoever needs more than the driver's words.

    Raises:
        SchemaError: a right is missing; it names the user, and what gives it the rights to our tables.
    """
    try:
        yield
    except psycopg.errors.InsufficientPrivilege as error:
        with closing(connections.direct()) as connection:
            line = f"{str(error).splitlines()[0]}: the user is {connection.info.user}"
        grants = f"`{names.command('sql grants')}` prints what the owner of the tables has to run for it"
        raise SchemaError(f"{line}; {grants}" if _is_about(error, names) else line) from error


def _is_about(error: psycopg.Error, names: Names) -> bool:
    """Whether tables that are there may not be used; nobody is granted to make or change them."""
    words = str(error)
    if words.startswith("permission denied for database"):
        return False
    return words.startswith("permission denied") and (names.prefix in words or f"schema {names.schema}" in words)
