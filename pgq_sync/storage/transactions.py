"""The transaction in which a handler works and its job's completion is written. Owned by the handler's thread."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Any

import psycopg

from pgq_sync.models import Settlement
from pgq_sync.storage.store import Intake

logger = logging.getLogger("pgq_sync.engine")

Lend = Callable[[], AbstractContextManager[psycopg.Connection[Any]]]
MakeIntake = Callable[[Any], AbstractContextManager[Intake]]
Finish = Callable[[Any, Settlement], bool]

_CANCEL_TIMEOUT = 2.0  # seconds for the server to take a cancel request


class PostgresTransaction:
    """A transaction on a connection of its own, taken at the first use.

    Args:
        lend: lends a connection in autocommit, and takes it back.
        intake: where to enqueue on a connection.
        finish: writes a completion on a connection.
    """

    def __init__(
        self,
        lend: Lend,
        intake: MakeIntake,
        finish: Finish,
    ) -> None:
        self.since: float | None = None
        self._lend = lend
        self._intake = intake
        self._finish = finish
        self._lent, self._begun = ExitStack(), ExitStack()
        self._connection: psycopg.Connection[Any] | None = None
        self._discarded = False

    def __enter__(self) -> PostgresTransaction:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self._connection is None:
            self._lent.__exit__(kind, error, traceback)
            return
        try:
            if error is not None:
                # A timeout may have left a statement running, behind which a rollback would wait.
                self._close_discarded()
            self._begun.__exit__(kind, error, traceback)
        finally:
            self._close_discarded()
            self._lent.close()

    def open(self) -> psycopg.Connection[Any]:
        if self._connection is None:
            connection = self._lent.enter_context(self._lend())
            # psycopg's own, in which the handler can neither commit nor roll back by itself.
            self._begun.enter_context(connection.transaction())
            self._connection = connection
            self.since = time.monotonic()
        return self._connection

    def intake(self) -> AbstractContextManager[Intake]:
        return self._intake(self.open())

    def finish(self, settlement: Settlement) -> bool:
        return self._finish(self.open(), settlement)

    def cancel(self) -> None:
        try:
            if self._connection is not None:
                self._connection.cancel_safe(timeout=_CANCEL_TIMEOUT)
        except Exception as error:
            logger.warning("the query of a handler whose time was over could not be cancelled: %s", error)

    def discard(self) -> None:
        self._discarded = True

    def _close_discarded(self) -> None:
        if self._discarded and self._connection is not None:
            self._connection.close()


class MemoryTransaction:
    """In memory there are none: what a handler enqueues is enqueued at once, and its completion is written as ever."""

    since: float | None = None

    def __init__(self, intake: Callable[[], AbstractContextManager[Intake]]) -> None:
        self._intake = intake

    def open(self) -> Any:
        raise RuntimeError("jobs in memory have no connection: test what context.connection does on PostgreSQL")

    def intake(self) -> AbstractContextManager[Intake]:
        return self._intake()

    def finish(self, settlement: Settlement) -> bool:
        raise RuntimeError("a transaction in memory never begins")

    def cancel(self) -> None:
        """There is no query."""

    def discard(self) -> None:
        """There is no connection."""
