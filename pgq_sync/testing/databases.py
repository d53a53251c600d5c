"""A PostgreSQL for tests, and databases in it that come and go."""

from __future__ import annotations

import itertools
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgq_sync.storage.embedded import embedded_postgres

_numbers = itertools.count(1)
_process = secrets.token_hex(3)  # other machines may use the same server, with the same process ids


@contextmanager
def temporary_server() -> Iterator[str]:
    """The DSN of an embedded PostgreSQL in a directory of its own, which is removed at the end.

    Raises:
        ConfigError: the package embedded-postgres is missing, or the server does not start.
    """
    directory = Path(tempfile.mkdtemp(prefix="pgq-sync-tests-"))
    directory.chmod(0o755)
    try:
        with embedded_postgres(str(directory / "data"), keep=False) as dsn:
            # Nothing here outlives a crash of the machine.
            with psycopg.connect(dsn, autocommit=True) as connection:
                for setting in ("fsync", "full_page_writes", "synchronous_commit"):
                    connection.execute(f"alter system set {setting} to off".encode())
                connection.execute("select pg_reload_conf()")
            yield dsn
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def create_database(server: str, template: str, options: str = "") -> str:
    """Makes a database.

    Args:
        server: the DSN of another one there, of a role that may create databases.
        template: the name of the one that it is a copy of.
        options: further ones of `create database`.

    Returns:
        Its DSN.
    """
    name = f"pgq_test_{os.getpid()}_{_process}_{next(_numbers)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"create database {name} template {template} {options}".encode())
    return make_conninfo(server, dbname=name)


def drop_database(server: str, dsn: str) -> None:
    """Drops a database, whoever is connected to it."""
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"drop database {database_name(dsn)} with (force)".encode())


@contextmanager
def database(server: str, template: str, options: str = "") -> Iterator[str]:
    """The DSN of a database that is made as `create_database` does, and dropped at the end."""
    dsn = create_database(server, template, options)
    try:
        yield dsn
    finally:
        drop_database(server, dsn)


def database_name(dsn: str) -> str:
    """The name of the database that a DSN leads to."""
    return str(conninfo_to_dict(dsn)["dbname"])
