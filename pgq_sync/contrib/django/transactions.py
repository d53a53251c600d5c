"""Handlers' transactions in Django: they are `atomic` blocks, a worker's and those within a test's own."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from pgq_sync.models import Settlement
from pgq_sync.storage.database import accepted, bind
from pgq_sync.storage.joined import JoinedTransaction
from pgq_sync.storage.store import HandlerTransaction, Intake
from pgq_sync.storage.transactions import Finish, MakeIntake

logger = logging.getLogger("pgq_sync.django")


class DjangoTransaction:
    """A handler within `atomic`, in which its job's completion is written."""

    def __init__(self, alias: str, intake: MakeIntake, finish: Finish) -> None:
        self.since: float | None = None
        self._alias = alias
        self._intake = intake
        self._finish = finish
        self._atomic = transaction.atomic(using=alias)
        self._committed = False

    def __enter__(self) -> DjangoTransaction:
        self._atomic.__enter__()
        self.since = time.monotonic()
        # The first of the callbacks: whatever another one raises, the job and its effects are there by then.
        transaction.on_commit(self._note_commit, using=self._alias)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        try:
            self._atomic.__exit__(kind, error, traceback)
        except BaseException as raised:  # a callback may raise what steers a job, too late
            if not self._committed or isinstance(raised, KeyboardInterrupt):
                raise
            logger.exception("a callback of transaction.on_commit has failed; the job has succeeded")
        if kind is None and not self._committed:
            connections[self._alias].rollback()
            raise transaction.TransactionManagementError(
                f"atomic() on {self._alias!r} does not commit: a transactional job needs AUTOCOMMIT in DATABASES"
            )

    def open(self) -> Any:
        return connections[self._alias]

    def intake(self) -> AbstractContextManager[Intake]:
        return self._intake(self.open())

    def finish(self, settlement: Settlement) -> bool:
        connection = self.open()
        _require_commit(connection)
        return self._finish(connection, settlement)

    def cancel(self) -> None:
        """The attempt's surrounding does so, for Django's connections of every alias."""

    def discard(self) -> None:
        """As `cancel`."""

    def _note_commit(self) -> None:
        self._committed = True


class JoinedDjangoTransaction:
    """A handler within `atomic` in a test's own transaction; its completion is written afterwards, as others' are."""

    since: float | None = None

    def __init__(self, connection: Any, intake: Callable[[], AbstractContextManager[Intake]]) -> None:
        self._connection = connection
        self._intake = intake
        self._atomic = transaction.atomic(using=connection.alias)

    def __enter__(self) -> JoinedDjangoTransaction:
        self._atomic.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        undone = self._connection.needs_rollback
        self._atomic.__exit__(kind, error, traceback)
        if kind is None and undone:
            raise _marked()

    def open(self) -> Any:
        return self._connection

    def intake(self) -> AbstractContextManager[Intake]:
        return self._intake()

    def finish(self, settlement: Settlement) -> bool:
        raise RuntimeError("a joined transaction is not the handler's to finish")

    def cancel(self) -> None:
        """A query of the test's connection is not cut off: the next one would be hit."""

    def discard(self) -> None:
        """The connection is the test's."""


def joined_transaction(
    connection: Any, intake: Callable[[], AbstractContextManager[Intake]]
) -> AbstractContextManager[HandlerTransaction]:
    """A handler's transaction on the connection of a test, which may be none of Django's."""
    connection = accepted(connection)
    if isinstance(connection, BaseDatabaseWrapper):
        return JoinedDjangoTransaction(connection, intake)
    return JoinedTransaction(bind(connection), intake)


def _require_commit(connection: Any) -> None:
    if connection.needs_rollback:
        raise _marked()


def _marked() -> transaction.TransactionManagementError:
    return transaction.TransactionManagementError(
        "the handler's transaction is marked for rollback (set_rollback, or a database error that was caught within "
        "atomic): nothing of it is committed, and so the job has not succeeded"
    )
