"""The connections that applications hold: each kind with a way to run statements on it and to end its transaction."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import psycopg2
import sqlalchemy
from psycopg.rows import dict_row
from sqlalchemy.orm import Session, scoped_session, sessionmaker

Row = tuple[Any, ...]

_aliases = itertools.count(1)


@dataclass(frozen=True)
class Link:
    """A connection in autocommit, or with its transaction open until `commit` or `rollback`."""

    given: Any  # what `pgq.on` gets
    run: Callable[[str], Sequence[Row]]
    commit: Callable[[], None]
    rollback: Callable[[], None]


def _nothing() -> None:
    """In autocommit there is nothing to end."""


def _ending(connection: Any, autocommit: bool) -> dict[str, Callable[[], None]]:
    if autocommit:
        return {"commit": _nothing, "rollback": _nothing}
    return {"commit": connection.commit, "rollback": connection.rollback}


def _psycopg_link(pick: Callable[[psycopg.Connection[Any]], Any], **options: Any) -> Callable[[str, bool], Iterator[Link]]:
    def link(dsn: str, autocommit: bool) -> Iterator[Link]:
        with closing(psycopg.connect(dsn, autocommit=autocommit, **options)) as connection:

            def run(sql: str) -> Sequence[Row]:
                cursor = psycopg.Cursor(connection, row_factory=psycopg.rows.tuple_row)
                cursor.execute(sql.encode())
                return cursor.fetchall() if cursor.description else []

            yield Link(pick(connection), run, **_ending(connection, autocommit))

    return link


def django_databases(dsn: str, alias: str) -> Any:
    """Django's connections, with `alias` for this database among them."""
    import django.db

    from tests.django.site.start import database_entry, start

    start()
    handler = django.db.utils.ConnectionHandler({"default": database_entry(dsn)})
    django.db.connections.settings[alias] = handler.settings["default"]
    return django.db.connections


@contextmanager
def django_connection(dsn: str, autocommit: bool = True) -> Iterator[Link]:
    """A Django connection; its transaction is an `atomic` block."""
    from django.db import transaction

    alias = f"test_{next(_aliases)}"
    connections = django_databases(dsn, alias)
    connection = connections[alias]

    def run(sql: str) -> Sequence[Row]:
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall()) if cursor.description else []

    def rollback() -> None:
        connection.set_rollback(True)
        block.close()

    try:
        if autocommit:
            yield Link(connection, run, commit=_nothing, rollback=_nothing)
        else:
            with ExitStack() as block:
                block.enter_context(transaction.atomic(using=alias))
                yield Link(connection, run, commit=block.close, rollback=rollback)
    finally:
        connection.close()
        del connections[alias], connections.settings[alias]


def _django_link(pick: Callable[[Any], Any]) -> Callable[[str, bool], Iterator[Link]]:
    def link(dsn: str, autocommit: bool) -> Iterator[Link]:
        with django_connection(dsn, autocommit) as link:
            yield Link(pick(link.given), link.run, link.commit, link.rollback)

    return link


@contextmanager
def sqlalchemy_engine(dsn: str, driver: str, autocommit: bool = False) -> Iterator[sqlalchemy.Engine]:
    """An engine of the dialect postgresql+psycopg or postgresql+psycopg2."""
    connect: Any = {"psycopg": psycopg, "psycopg2": psycopg2}[driver].connect
    options: dict[str, Any] = {"isolation_level": "AUTOCOMMIT"} if autocommit else {}
    engine = sqlalchemy.create_engine(f"postgresql+{driver}://", creator=lambda: connect(dsn), **options)
    try:
        yield engine
    finally:
        engine.dispose()


def _sqlalchemy_link(kind: str, driver: str) -> Callable[[str, bool], Iterator[Link]]:
    def link(dsn: str, autocommit: bool) -> Iterator[Link]:
        with sqlalchemy_engine(dsn, driver, autocommit) as engine:
            makers: dict[str, Callable[[], Any]] = {
                "Connection": engine.connect,
                "Session": lambda: Session(engine),
                "scoped_session": lambda: scoped_session(sessionmaker(engine)),
            }
            given = makers[kind]()

            def run(sql: str) -> Sequence[Row]:
                result = given.execute(sqlalchemy.text(sql))
                return [tuple(row) for row in result] if result.returns_rows else []

            try:
                yield Link(given, run, commit=given.commit, rollback=given.rollback)
            finally:
                given.close()

    return link


KINDS: dict[str, Callable[[str, bool], Iterator[Link]]] = {
    "psycopg": _psycopg_link(lambda connection: connection),
    "psycopg cursor": _psycopg_link(lambda connection: connection.cursor()),
    "psycopg with dict rows": _psycopg_link(lambda connection: connection, row_factory=dict_row),
    "psycopg with raw cursors": _psycopg_link(lambda connection: connection, cursor_factory=psycopg.RawCursor),
    "psycopg with client cursors": _psycopg_link(lambda connection: connection, cursor_factory=psycopg.ClientCursor),
    "psycopg raw cursor": _psycopg_link(lambda connection: connection.cursor(), cursor_factory=psycopg.RawCursor),
    "Django": _django_link(lambda connection: connection),
    "Django alias": _django_link(lambda connection: connection.alias),
} | {
    f"SQLAlchemy {kind} on {driver}": _sqlalchemy_link(kind, driver)
    for kind in ("Connection", "Session", "scoped_session")
    for driver in ("psycopg", "psycopg2")
}

# One per driver and framework.
DRIVERS = ("psycopg", "Django", "SQLAlchemy Connection on psycopg", "SQLAlchemy Connection on psycopg2")


@contextmanager
def linked(kind: str, dsn: str, *, autocommit: bool) -> Iterator[Link]:
    """A link of this kind."""
    with contextmanager(KINDS[kind])(dsn, autocommit) as link:
        yield link
