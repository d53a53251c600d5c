"""Where connections come from in Django: its own one for whoever enqueues, others to the same database for a worker."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import psycopg
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.db.utils import ConnectionDoesNotExist
from psycopg.conninfo import make_conninfo

from pgq_sync.contrib.django.transactions import DjangoTransaction
from pgq_sync.errors import ConfigError
from pgq_sync.settings import Settings
from pgq_sync.storage.connections import EngineConnections, OwnPool
from pgq_sync.storage.database import DjangoSession, Session
from pgq_sync.storage.store import HandlerTransaction
from pgq_sync.storage.transactions import Finish, MakeIntake

_ESCAPED = re.compile(r"([\\\s])")
_BY_BACKSLASH = r"\\\1"
_PASSED = ("pgq_sync", "contextlib", "django")  # by a warning on its way to the line that enqueues


class ForeignTransaction(RuntimeWarning):
    """A job is enqueued on one database within a transaction on another: it stays whatever becomes of that."""


class DjangoConnections:
    """Sessions are on Django's connection of this thread, in whatever transaction that is in.

    Args:
        alias: of the database.
        settings: of the connections that are not Django's.
    """

    def __init__(self, alias: str, settings: Settings) -> None:
        self.alias = alias
        self._others = AliasPool(alias, settings)

    @contextmanager
    def session(self, *, patient: bool = True) -> Iterator[Session]:
        connection = require_postgresql(self.alias)
        if not connection.in_atomic_block:
            _warn_of_others(self.alias)
        yield DjangoSession(connection)

    def direct(self, *, listening: bool = False) -> psycopg.Connection[Any]:
        return self._others.direct(listening=listening)

    def for_engine(self, *, handlers: int = 1) -> EngineConnections:
        return DjangoEngine(self.alias, self._others.for_engine(handlers=handlers))

    def joined(self) -> Any:
        connection = require_postgresql(self.alias)
        return None if DjangoSession(connection).in_autocommit else connection

    def close(self) -> None:
        """Django's own connections are Django's."""
        self._others.close()


class AliasPool(OwnPool):
    """A pool of our own to the database of an alias, as it is named at each use: tests give it another name."""

    def __init__(self, alias: str, settings: Settings) -> None:
        super().__init__(settings)
        self._alias = alias

    @property
    def dsn(self) -> str:
        return dsn_of(self._alias)


class DjangoEngine:
    """A worker's connections: its own, but for handlers, which work on Django's."""

    def __init__(self, alias: str, others: EngineConnections) -> None:
        self._alias = alias
        self._others = others

    def session(self, *, patient: bool = False) -> AbstractContextManager[Session]:
        return self._others.session(patient=patient)

    def direct(self, *, listening: bool = False) -> psycopg.Connection[Any]:
        return self._others.direct(listening=listening)

    def for_engine(self, *, handlers: int = 1) -> EngineConnections:
        return self

    def joined(self) -> None:
        """A worker is in nobody's transaction."""

    def transaction(self, intake: MakeIntake, finish: Finish) -> AbstractContextManager[HandlerTransaction]:
        return DjangoTransaction(self._alias, intake, finish)

    def close(self) -> None:
        self._others.close()


def require_postgresql(alias: str) -> Any:
    """Django's connection of this thread.

    Raises:
        ConfigError: there is no such alias, or another database behind it.
    """
    try:
        connection = connections[alias]
    except (ConnectionDoesNotExist, ImproperlyConfigured) as error:
        raise ConfigError(f"PGQ_SYNC['DATABASE'] is {alias!r}: {error}") from error
    if connection.vendor != "postgresql":
        engine = connection.settings_dict["ENGINE"]
        raise ConfigError(f"the database {alias!r} has the engine {engine}: pgq-sync needs django.db.backends.postgresql")
    return connection


def dsn_of(alias: str) -> str:
    """The DSN by which Django itself would connect.

    Raises:
        ConfigError: as of `require_postgresql`, or the database's settings cannot be used.
    """
    try:
        given = require_postgresql(alias).get_connection_params()
    except ImproperlyConfigured as error:
        raise ConfigError(f"DATABASES[{alias!r}]: {error}") from error
    if role := require_postgresql(alias).settings_dict["OPTIONS"].get("assume_role"):
        # As Django does after it has connected. A blank or a backslash in an option is escaped by a backslash.
        given["options"] = f"{given.get('options', '')} -c role={_ESCAPED.sub(_BY_BACKSLASH, role)}".strip()
    known = {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()}
    # Beside them stand options of Django and of psycopg's objects; our connections set their encoding themselves.
    return make_conninfo("", **{name: value for name, value in given.items() if name in known - {"client_encoding"}})


def _warn_of_others(alias: str) -> None:
    for other in connections.all(initialized_only=True):
        if other.in_atomic_block and other.alias != alias:
            warnings.warn(
                f"a job is enqueued on the database {alias!r} within a transaction on {other.alias!r}, which it does not "
                f"share: it stays even if that is rolled back. Enqueue after transaction.on_commit(..., using={other.alias!r})",
                ForeignTransaction,
                stacklevel=_level_of_caller(),
            )
            return


def _level_of_caller() -> int:
    """How far above the caller of this function the first frame is that is neither pgq-sync's nor a helper's of its."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _PASSED:
        level, frame = level + 1, frame.f_back
    return level
