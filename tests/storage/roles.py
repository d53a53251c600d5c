"""Database roles of few rights, as the documented grants make them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg.conninfo import make_conninfo

from pgq_sync import PgQueuer, Settings
from pgq_sync.storage.names import Names
from pgq_sync.storage.schema import grants
from tests.storage.support import query

FORBIDDEN = psycopg.errors.InsufficientPrivilege

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Role:
    """An application as a role of few rights, and the owner's way to the same database."""

    pgq: PgQueuer
    dsn: str
    names: Names
    owner: str  # a DSN

    def table(self, name: str) -> str:
        return self.names.qualified(name)


@contextmanager
def login(owner: str, kind: str) -> Iterator[tuple[str, str]]:
    """The name and the DSN of a new role without any right, which is dropped at the end with all that it owns."""
    name = f"Pgq test {kind} {os.getpid()} {next(_numbers)}"
    query(owner, f"create role \"{name}\" login password 'secret'")
    try:
        yield name, make_conninfo(owner, user=name, password="secret")
    finally:
        query(owner, f'drop owned by "{name}"; drop role "{name}"')


@contextmanager
def granted(owner: str, settings: Settings, kind: str) -> Iterator[Role]:
    """A "producer", a "worker" or an "operator" in a database into which the tables are installed."""
    names, schema = Names(settings.prefix, settings.schema), f'"{settings.schema or "public"}"'
    with PgQueuer.from_dsn(owner, settings=settings) as pgq:
        pgq.schema.install()
    # Nothing that everybody may do by default shall help.
    query(owner, f"revoke create on schema public from public; revoke execute on all functions in schema {schema} from public")
    with login(owner, kind) as (name, dsn), PgQueuer.from_dsn(dsn, settings=settings) as pgq:
        query(owner, grants(names, **{kind: name}))
        yield Role(pgq, dsn, names, owner)


def days(role: Role) -> list[str]:
    """The days of which history has a partition."""
    rows = query(
        role.owner,
        "select right(relname, 8) from pg_inherits join pg_class on oid = inhrelid where inhparent = %s::regclass order by 1",
        [role.table("history")],
    )
    return [row[0] for row in rows]
