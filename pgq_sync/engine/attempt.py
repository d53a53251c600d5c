"""The context of an attempt that has a timeout, a transaction or a framework. The others do without any of this.

The slot's thread runs the handler in it; the watchdog's thread looks after it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, MutableMapping
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta, timezone
from typing import Any, TypeVar

from pgq_sync.engine.environment import Surrounding
from pgq_sync.engine.guard import Guard
from pgq_sync.entrypoints.context import Context, TakeReport
from pgq_sync.entrypoints.signals import Signal
from pgq_sync.errors import JobTimeout
from pgq_sync.models import Job
from pgq_sync.storage.producer import Producer
from pgq_sync.storage.store import HandlerTransaction

Value = TypeVar("Value")


class Attempt(Context):
    """One attempt.

    Args:
        job, resources, producer: as in `Context`.
        timeout: how long the handler may run, in seconds from now.
        report, stopping: as in `Context`.
    """

    __slots__ = ("_deadline", "_transaction", "guard", "settling", "started", "surrounding", "warned")

    def __init__(
        self,
        job: Job,
        resources: MutableMapping[Any, Any],
        producer: Producer,
        timeout: float | None,
        report: TakeReport | None = None,
        stopping: Signal | None = None,
    ) -> None:
        super().__init__(job, resources, producer, report, stopping)
        self.started = time.monotonic()
        self.guard = None if timeout is None else Guard(timeout)
        self.settling = False  # the handler has returned, and its transaction is to be committed
        self.warned = False  # that its transaction is open for long
        self.surrounding: Surrounding | None = None  # the framework's
        self._deadline = None if timeout is None else datetime.now(timezone.utc) + timedelta(seconds=timeout)
        self._transaction: HandlerTransaction | None = None

    def join(self, transaction: HandlerTransaction, producer: Producer) -> None:
        """Has the handler work in `transaction`, in which its completion will be written, and enqueue in it."""
        self._transaction = transaction
        self.producer = producer

    @property
    def deadline(self) -> datetime | None:
        return self._deadline

    @property
    def connection(self) -> Any:
        return super().connection if self._transaction is None else self._transaction.open()

    def check(self) -> None:
        if self.guard is not None and self.guard.is_over:
            if self.guard.shielded:
                self.guard.tell()
            raise JobTimeout(self._reason)
        super().check()

    def progress(self, fraction: float, note: str | None = None) -> None:
        super().progress(fraction, note)
        # A handler that reports all the time is nearly always where nothing may be raised from outside.
        if self.guard is not None and self.guard.is_over and self.guard.tell():
            self.cancelled.set()
            raise JobTimeout(self._reason)

    def blamed(self, error: BaseException) -> BaseException:
        if isinstance(error, JobTimeout) and error.reason is None:
            error.args = (self._reason,)  # CPython raises a class, which knows nothing of this attempt
        if self.guard is None or not self.guard.fired or not isinstance(error, Exception):
            return error
        timeout = JobTimeout(self._reason)
        timeout.__cause__ = error
        return timeout

    @property
    def timed_out(self) -> bool:
        return self.guard is not None and self.guard.is_over

    @property
    def in_transaction_since(self) -> float | None:
        """When the handler's transaction began, by the monotonic clock; None if it has none."""
        return None if self._transaction is None else self._transaction.since

    def run(self, handler: Callable[[], Value]) -> Value:
        """Calls `handler`, in the slot's thread.

        Raises:
            JobTimeout: its time was over before it returned.
        """
        if self.guard is None:
            return handler()
        try:
            return self.guard.run(handler)
        finally:
            if self.guard.fired:
                # A cancel request on its way would hit whoever uses the connection next.
                for interrupted in self._interruptible():
                    interrupted.discard()

    def end_time(self) -> None:
        """The deadline has come: stops the handler. From the watchdog's thread; to be called until the guard has fired."""
        if self.guard is None:
            return
        if self.guard.shielded:
            self.cancelled.set()  # wakes the handler, who looks at the clock
            return
        if not self.guard.fire():
            return
        self.cancelled.set()
        for interrupted in self._interruptible():
            # In a thread of its own: while one server is slow to take the request, other deadlines come.
            threading.Thread(target=interrupted.cancel, name="pgq-cancel", daemon=True).start()

    def _interruptible(self) -> list[HandlerTransaction | Surrounding]:
        """What may wait for an answer."""
        found: list[HandlerTransaction | Surrounding] = []
        if self._transaction is not None and self._transaction.since is not None:
            found.append(self._transaction)
        if self.surrounding is not None:
            found.append(self.surrounding)
        return found

    def _shielded(self) -> AbstractContextManager[None]:
        return nullcontext() if self.guard is None else self.guard.shield()

    @property
    def _reason(self) -> str | None:
        return None if self.guard is None else f"the attempt took longer than its timeout of {self.guard.timeout:g} s"
