"""Where connections come from: an own pool, the caller's pool, or the caller's one connection.

What the caller owns is used and never closed. Nothing is opened before it is needed, and nothing is shared with a
forked child. Passwords stay out of every message.
"""

from __future__ import annotations

import os
import re
import threading
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import ConnectionPool, PoolTimeout

from pgq_sync.errors import ConfigError
from pgq_sync.settings import Settings
from pgq_sync.storage.database import PsycopgSession, Session

# A peer that vanished is noticed within half a minute, and an unreachable one does not hang a start.
_PATIENCE = {"keepalives": 1, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "connect_timeout": 10}
# psycopg prepares statements, and a plan made while the table was empty would go on reading all of it when it is
# large. Every statement of ours has an index to use.
_SESSION = "set timezone to 'UTC'; set enable_seqscan to off; set plan_cache_mode to auto"
_POOL_TIMEOUT = 10.0
_LIBPQ_VARIABLES = ("PGHOST", "PGHOSTADDR", "PGSERVICE", "PGDATABASE", "PGPORT")


class Connections(Protocol):
    """Gives out sessions for single statements, and direct connections to whoever wants one for itself."""

    def session(self) -> Any:
        """A context manager for a session on a connection that nobody else uses meanwhile."""

    def direct(self, *, listening: bool = False) -> psycopg.Connection[Any]:
        """Opens a connection in autocommit, to be closed by the caller."""

    def for_engine(self) -> Connections:
        """The connections that a worker uses beside its listener's."""

    def close(self) -> None:
        """Closes what it opened; later use opens again."""


class OwnPool:
    """A psycopg_pool of our own, opened at first use and anew after a fork."""

    def __init__(self, settings: Settings, dsn: str | None = None) -> None:
        self._settings = settings
        self._given_dsn = dsn
        self._lock = threading.Lock()
        self._pool: ConnectionPool[psycopg.Connection[Any]] | None = None
        if hasattr(os, "register_at_fork"):
            method = weakref.WeakMethod(self._forget)
            os.register_at_fork(after_in_child=lambda: (forget := method()) and forget())

    def __repr__(self) -> str:
        return "OwnPool()"

    @contextmanager
    def session(self) -> Iterator[Session]:
        pool = self._opened()
        try:
            connection = pool.getconn(timeout=_POOL_TIMEOUT)
        except PoolTimeout:
            # The pool does not tell why; one more try does, unless all its connections are only busy.
            self.direct().close()
            raise
        try:
            with connection:
                yield PsycopgSession(connection)
        finally:
            pool.putconn(connection)

    def direct(self, *, listening: bool = False) -> psycopg.Connection[Any]:
        dsn = (self._settings.listen_dsn if listening else None) or self.dsn
        return connect(dsn, "listener" if listening else "direct")

    def for_engine(self) -> OwnPool:
        return self

    def close(self) -> None:
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    @property
    def dsn(self) -> str:
        return find_dsn(self._given_dsn or self._settings.dsn)

    def _opened(self) -> ConnectionPool[psycopg.Connection[Any]]:
        pool = self._pool
        if pool is not None:
            return pool
        with self._lock:
            if self._pool is None:
                # A wrong DSN or a server that is away is told at once, and not after a pool has tried for long.
                self.direct().close()
                self._pool = ConnectionPool(
                    complete_dsn(self.dsn, "pool"),
                    kwargs={"autocommit": True},
                    configure=_configure,
                    min_size=0,
                    max_size=self._settings.pool_size,
                    name="pgq-sync",
                    open=True,
                )
            return self._pool

    def _forget(self) -> None:
        # In a forked child: the parent's sockets and threads are not ours, and its lock may be held for ever. The
        # parent's pool is kept, since collecting it would have it wait for threads that do not exist here.
        self._lock = threading.Lock()
        self._inherited, self._pool = self._pool, None


class ForeignPool:
    """The caller's psycopg_pool."""

    def __init__(self, pool: ConnectionPool[Any], settings: Settings) -> None:
        self._pool = pool
        self._settings = settings

    @contextmanager
    def session(self) -> Iterator[Session]:
        with self._pool.connection() as connection:
            # Not prepared: the session's settings are the caller's, so each plan must fit the table as it is now.
            yield PsycopgSession(connection, prepare=False)

    def direct(self, *, listening: bool = False) -> psycopg.Connection[Any]:
        if listening and self._settings.listen_dsn:
            return connect(self._settings.listen_dsn, "listener")
        conninfo, kwargs = self._pool.conninfo, self._pool.kwargs
        parameters = _libpq_parameters(conninfo() if callable(conninfo) else conninfo, kwargs() if callable(kwargs) else kwargs)
        return connect(parameters, "listener" if listening else "direct")

    def for_engine(self) -> ForeignPool:
        return self

    def close(self) -> None:
        """The pool is the caller's."""


class ForeignConnection:
    """The caller's one psycopg connection; a worker opens others with its parameters."""

    def __init__(self, connection: psycopg.Connection[Any], settings: Settings) -> None:
        self._connection = connection
        self._settings = settings
        self._engine: OwnPool | None = None

    @contextmanager
    def session(self) -> Iterator[Session]:
        if self._connection.closed:
            raise ConnectionError("the psycopg connection is closed: nothing was done")
        yield PsycopgSession(self._connection)

    def direct(self, *, listening: bool = False) -> psycopg.Connection[Any]:
        return self.for_engine().direct(listening=listening)

    def for_engine(self) -> OwnPool:
        if self._engine is None:
            info = self._connection.info
            self._engine = OwnPool(
                self._settings, make_conninfo("", **(info.get_parameters() | {"password": info.password or None}))
            )
        return self._engine

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()


def find_dsn(given: str | None, environ: Mapping[str, str] | None = None) -> str:
    """The DSN to use: the given one, else `PGQ_DSN`, else `DATABASE_URL`, else libpq's own variables.

    Raises:
        ConfigError: none of them says where the database is.
    """
    environ = os.environ if environ is None else environ
    dsn = given or environ.get("PGQ_DSN") or environ.get("DATABASE_URL")
    if not dsn and not any(environ.get(name) for name in _LIBPQ_VARIABLES):
        raise ConfigError(
            "no database is named: pass a dsn, or set PGQ_DSN, DATABASE_URL or libpq's variables (PGHOST, PGDATABASE ...), "
            "or try it without a server of your own: pgq-sync worker ... --embedded"
        )
    return dsn or ""


def complete_dsn(dsn: str, role: str) -> str:
    """`dsn` with our patience, UTF-8, and a name that tells in pg_stat_activity who this is; what it sets itself stays.

    Raises:
        ConfigError: the DSN cannot be parsed.
    """
    try:
        # SQLAlchemy's way to name a driver: postgresql+psycopg://
        parameters = conninfo_to_dict(re.sub(r"^(postgres(?:ql)?)\+\w+://", r"\1://", dsn))
        # An @ in the password that is not percent-encoded: libpq takes what follows it for the host, and would show it.
        if "@" in str(parameters.get("host", ""))[1:]:  # at its beginning it names an abstract socket
            raise ValueError("@ in host")
    except (psycopg.ProgrammingError, ValueError):
        # libpq's own message would quote a part of the DSN, perhaps the password.
        raise ConfigError(
            "the DSN cannot be parsed: write postgresql://user:password@host:5432/database, "
            "special characters in it percent-encoded, or host=... dbname=... user=..."
        ) from None
    # Without an encoding, a database in SQL_ASCII would answer with bytes for text.
    ours = {"application_name": f"pgq-sync {role}", "client_encoding": "UTF8"}
    return make_conninfo("", **(ours | _PATIENCE | parameters))


def connect(dsn: str, role: str) -> psycopg.Connection[Any]:
    """Opens a direct connection in autocommit, configured for our statements."""
    connection = psycopg.connect(complete_dsn(dsn, role), autocommit=True)
    try:
        _configure(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def pooled(connection: psycopg.Connection[Any]) -> bool:
    """Whether a pooler stands between: it makes up the process id that it tells its clients."""
    ((pid,),) = connection.execute("select pg_backend_pid()")
    return bool(pid != connection.info.backend_pid)


def _configure(connection: psycopg.Connection[Any]) -> None:
    connection.execute(_SESSION)


def _libpq_parameters(conninfo: str, kwargs: Mapping[str, Any] | None) -> str:
    ours = {"autocommit", "row_factory", "cursor_factory", "prepare_threshold", "context"}
    return make_conninfo(conninfo, **{key: value for key, value in (kwargs or {}).items() if key not in ours})
