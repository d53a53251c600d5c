"""Django around each attempt: its connections are checked before and closed after it, as in a request."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import close_old_connections, connections, reset_queries

from pgq_sync.contrib.django.setup import setup
from pgq_sync.engine.environment import within
from pgq_sync.models import Job

logger = logging.getLogger("pgq_sync.django")

_CANCEL_TIMEOUT = 2.0  # seconds for the server to take a cancel request


class DjangoEnvironment:
    """The framework, for `PgQueuer.environment`."""

    def around(self, job: Job, *, borrowed: bool) -> ConnectionCare:
        return ConnectionCare(borrowed)

    def leave_thread(self) -> None:
        connections.close_all()


class ConnectionCare:
    """One attempt.

    Args:
        borrowed: the connections are those of whoever's thread this is: they are left as they are.

    Attributes:
        at_end: called with what came out of the attempt, once it and its transaction have ended, and its connections not yet.
    """

    def __init__(self, borrowed: bool) -> None:
        self.at_end: list[Callable[[BaseException | None], None]] = []
        self._borrowed = borrowed
        self._lock = threading.Lock()
        self._left = False
        self._cut_off = False
        # This thread's own objects, by which another one can reach the connections.
        self._wrappers = list(_wrappers())

    def __enter__(self) -> None:
        if not self._borrowed:
            reset_queries()
            close_old_connections()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        with self._lock:
            self._left = True
        if not self._borrowed:
            self._clean()  # for those who are called now
        try:
            for call in self.at_end:
                call(error)
        finally:
            if not self._borrowed:
                self._clean()

    def cancel(self) -> None:
        if self._borrowed:
            return  # the next statement of whoever's connection it is would be hit
        with self._lock:
            # After the attempt the wrappers have connections of the next one.
            found = [] if self._left else [each.connection for each in self._wrappers if each.vendor == "postgresql"]
        for connection in found:
            if connection is not None and not connection.closed:
                _cancel(connection)

    def discard(self) -> None:
        self._cut_off = True

    def _clean(self) -> None:
        for wrapper in connections.all(initialized_only=True):
            if self._cut_off and wrapper.connection is not None:
                wrapper.connection.close()  # Django's pool would give it to another job, with a request on its way to it
            if wrapper.in_atomic_block:
                _abandon(wrapper)
            elif getattr(wrapper.connection, "closed", False):
                wrapper.close()  # of a broken one Django itself would know by the failure of the next query
        close_old_connections()


@contextmanager
def in_another_process() -> Iterator[None]:
    """What surrounds each job in a process of its own, to which nothing but its module's name is known."""
    setup()
    with within(ConnectionCare(borrowed=False)):
        yield


def _wrappers() -> Iterator[Any]:
    for alias in connections:
        # Of one whose driver is missing nobody waits for an answer.
        with suppress(ImproperlyConfigured):
            yield connections[alias]


def _cancel(connection: Any) -> None:
    try:
        # psycopg 3 from 3.2 on has the one, psycopg2 the other.
        cancel = getattr(connection, "cancel_safe", None)
        cancel(timeout=_CANCEL_TIMEOUT) if cancel else connection.cancel()
    except Exception as error:
        logger.warning("the query of a handler whose time was over could not be cancelled: %s", error)


def _abandon(wrapper: Any) -> None:
    """Rolls back what a handler has left open. Django keeps a wrapper within `atomic` for good, closed or not."""
    try:
        wrapper.close()
    finally:
        del connections[wrapper.alias]
