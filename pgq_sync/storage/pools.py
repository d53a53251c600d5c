"""A psycopg_pool that is opened at first use, and anew after a fork. Used from any thread; runs no statement of its own."""

from __future__ import annotations

import atexit
import functools
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from psycopg_pool import ConnectionPool, PoolTimeout

from pgq_sync.storage.failures import spoils_connection
from pgq_sync.storage.limited import LimitedConnection

_TIMEOUT = 10.0  # seconds to wait for a connection
_TRY = 1.0  # seconds until it is looked whether the pool has one at all
# What somebody may set on a connection, and the next one would find strange.
_MANNERS = ("autocommit", "row_factory", "cursor_factory", "prepare_threshold", "isolation_level", "read_only", "deferrable")


class LazyPool:
    """Lends connections.

    Args:
        name: the pool's, for its threads and its log.
        max_size: the most connections.
        dsn: where to connect, asked at the first use; with `afresh` for each connection, which takes psycopg_pool 3.3.
        options: further ones of `psycopg.connect`, asked at the first use.
        configure: prepares a new connection.
        probe: connects once, and fails with the reason where that is not possible.
    """

    def __init__(
        self,
        name: str,
        max_size: int,
        dsn: Callable[[], str],
        configure: Callable[[LimitedConnection], None],
        probe: Callable[[], None],
        *,
        options: Callable[[], Mapping[str, Any]] = dict,
        afresh: bool = False,
    ) -> None:
        self._name = name
        self._max_size = max_size
        self._dsn = dsn
        self._configure = configure
        self._probe = probe
        self._options = options
        self._afresh = afresh
        self._lock = threading.Lock()
        self._pool: ConnectionPool[LimitedConnection] | None = None
        self._inherited: ConnectionPool[LimitedConnection] | None = None
        self._watching = False

    @contextmanager
    def connection(self) -> Iterator[LimitedConnection]:
        """A connection that nobody else uses meanwhile; left in a transaction it commits, or after an error rolls back.

        Raises:
            psycopg.OperationalError: none can be had.
        """
        pool = self._opened()
        connection = self._taken_from(pool)
        try:
            with connection:
                yield connection
        except BaseException as error:
            _close_if_spoilt(connection, pool, error)
            raise
        finally:
            pool.putconn(connection)

    def close(self) -> None:
        """Closes the pool; later use opens it again."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def _taken_from(self, pool: ConnectionPool[LimitedConnection]) -> LimitedConnection:
        deadline = time.monotonic() + _TIMEOUT
        while True:
            try:
                return pool.getconn(timeout=_TRY)
            except PoolTimeout:
                over = time.monotonic() >= deadline
                # The pool does not tell why; one more try does. It is spared where all connections are only busy.
                if over or not pool.get_stats()["pool_size"]:
                    self._probe()
                if over:
                    raise

    def _opened(self) -> ConnectionPool[LimitedConnection]:
        pool = self._pool
        if pool is not None:
            return pool
        self._watch_for_forks()
        _close_at_exit(self)
        with self._lock:
            if self._pool is None:
                # A wrong DSN or a server that is away is told at once, and not after a pool has tried for long.
                self._probe()
                self._pool = self._make()
            return self._pool

    def _make(self) -> ConnectionPool[LimitedConnection]:
        return ConnectionPool(
            self._dsn if self._afresh else self._dsn(),
            connection_class=LimitedConnection,
            kwargs={**self._options(), "autocommit": True},
            configure=self._configure,
            min_size=0,
            max_size=self._max_size,
            name=self._name,
            # The delays between a pool's own tries double: it would find a server that was away for minutes only minutes
            # after its return. So it gives up soon, and whoever wants a connection makes it try anew.
            reconnect_timeout=0,
            open=True,
        )

    def _watch_for_forks(self) -> None:
        # At first use, and not for each object that is made: what is registered once is never forgotten.
        if not self._watching and hasattr(os, "register_at_fork"):
            method = weakref.WeakMethod(self._forget)
            os.register_at_fork(after_in_child=lambda: (forget := method()) and forget())
            self._watching = True

    def _forget(self) -> None:
        # In a forked child: the parent's sockets and threads are not ours, and its lock may be held for ever. The
        # parent's pool is kept, since collecting it would have it wait for threads that do not exist here.
        self._lock = threading.Lock()
        self._inherited = self._pool or self._inherited
        self._pool = None


_used: weakref.WeakSet[LazyPool] = weakref.WeakSet()


def _close_at_exit(pool: LazyPool) -> None:
    """Whoever closes nothing need not wait: from Python 3.13 on an open pool costs the interpreter's end 5 s for each thread."""
    _used.add(pool)
    _register_closing()


@functools.cache
def _register_closing() -> None:
    atexit.register(_close_used)


def _close_used() -> None:
    for pool in list(_used):
        pool.close()


class HandlersPool(LazyPool):
    """Lends connections to handlers: back as they were they are used again, and after an error never."""

    @contextmanager
    def connection(self) -> Iterator[LimitedConnection]:
        with super().connection() as connection:
            before = [getattr(connection, name) for name in _MANNERS]
            try:
                yield connection
                _restore(connection, before)
            except BaseException:
                connection.close()  # an exception raised from elsewhere may have hit in the middle of anything
                raise


def _restore(connection: LimitedConnection, manners: list[Any]) -> None:
    if connection.closed:
        return
    connection.commit()  # most of them cannot be set within a transaction
    for name, value in zip(_MANNERS, manners, strict=True):
        if getattr(connection, name) != value:
            setattr(connection, name, value)


def _close_if_spoilt(connection: LimitedConnection, pool: ConnectionPool[LimitedConnection], error: BaseException) -> None:
    if not isinstance(error, Exception):
        connection.close()  # raised from elsewhere, it may have hit in the middle of anything
    elif spoils_connection(error):
        connection.close()
        if hasattr(pool, "drain"):  # from psycopg_pool 3.3 on; before it each connection must fail for itself
            pool.drain()
