"""The deadline of one attempt: raises JobTimeout in its thread, once, and never outside of the handler.

The slot's thread runs the handler under it; the watchdog's thread fires it.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

from pgq_sync.errors import JobTimeout

Value = TypeVar("Value")

# Where an exception out of nowhere does lasting harm: it would leave a lock taken for ever (logging takes its locks
# without `with` before Python 3.13), a connection of a pool given out to nobody, or the store in memory half changed.
# So would one in what reports progress, or starts the thread for it; and where jobs are waited for, in what all who wait share.
# All of logging, and not only where it takes a lock: an exception that is set while a handler writes strikes a little later.
_CRITICAL_MODULES = (
    "logging",
    "psycopg_pool",
    "pgq_sync.storage.pools",
    "pgq_sync.storage.memory",
    "pgq_sync.storage.waker",
    "pgq_sync.engine.progress",
    "pgq_sync.engine.promises",
    "pgq_sync.engine.threads",
)
# Where a lock is taken or given back in Python code: struck in there, `with` does not give it back. A queue has such a lock, and
# a future: whoever uses that later would wait for ever.
_CRITICAL_CODE = (threading.Condition.__enter__.__code__, threading.Condition.__exit__.__code__)
_NEAR = 4  # innermost frames that are looked at: they call into other modules, but not deep


class Guard:
    """The deadline.

    Args:
        timeout: in how many seconds from now it is over.
    """

    __slots__ = ("_late", "_lock", "_spared", "_thread", "deadline", "fired", "shielded", "timeout")

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.deadline = time.monotonic() + timeout
        self.fired = False
        self.shielded = False  # the handler waits where it is told otherwise
        self._spared: tuple[str, ...] = _CRITICAL_MODULES  # the beginnings of modules in which nothing is raised
        self._late = False  # whether a handler that returns after the deadline has failed
        self._lock = threading.Lock()
        self._thread: int | None = None  # in which the handler runs; None: it does not, and nothing may be raised

    @property
    def is_over(self) -> bool:
        """Whether the deadline has passed."""
        return time.monotonic() >= self.deadline

    def spare(self, modules: tuple[str, ...]) -> None:
        """Has nothing raised in these modules either, and so perhaps nowhere: a handler that returns too late has failed then."""
        self._spared += modules
        self._late = True

    def run(self, handler: Callable[[], Value]) -> Value:
        """Calls `handler`, in the slot's thread.

        Raises:
            JobTimeout: the deadline passed before the handler returned.
        """
        returned = False
        try:
            try:
                self._arm()
                value = handler()
                returned = True
            finally:
                # What was fired and is not delivered yet may strike anywhere in here, until it is taken back.
                self._disarm()
        except JobTimeout:
            self._disarm()
            if not returned:
                raise
        if self._late and self.is_over:
            raise JobTimeout
        return value

    def fire(self) -> bool:
        """Has JobTimeout raised in the handler at its next bytecode; False where this is no moment for it, or no use."""

        def strike(thread: int) -> None:
            # Both while this thread holds the interpreter: the other one stands still where it is.
            if not self.fired and not self.shielded and not _is_in(self._spared, sys._current_frames().get(thread)):
                self.fired = True
                _raise_in(thread, JobTimeout)

        return not self.fired and self.while_armed(strike) and self.fired

    @contextmanager
    def shield(self) -> Iterator[None]:
        """A block in which nothing is raised from outside, in the slot's thread; what has been fired is raised before it."""
        with self._lock:
            before, self.shielded = self.shielded, True
            if self.fired:
                _raise_in(threading.get_ident(), None)
        try:
            if self.fired:
                raise JobTimeout
            yield
        finally:
            self.shielded = before

    def tell(self) -> bool:
        """The handler is told in its own thread that its time is over, and not from outside any more.

        Returns:
            False if it knew, or if this is another thread: one that it has started, say, whose end would not end it.
        """
        with self._lock:
            if self.fired or self._thread != threading.get_ident():
                return False
            self.fired = True
            return True

    def while_armed(self, act: Callable[[int], None]) -> bool:
        """Calls `act` with the thread's number if the handler still runs, and keeps it from ending; tells whether it did."""
        with self._lock:
            if self._thread is None:
                return False
            act(self._thread)
            return True

    def _arm(self) -> None:
        with self._lock:
            self._thread = threading.get_ident()

    def _disarm(self) -> None:
        with self._lock:
            self._thread = None
            if self.fired:
                _raise_in(threading.get_ident(), None)


def _is_in(modules: tuple[str, ...], frame: FrameType | None) -> bool:
    """Whether a thread at `frame` is in one of these modules, and had better not be interrupted."""
    for _ in range(_NEAR):
        if frame is None:
            return False
        if frame.f_code in _CRITICAL_CODE or str(frame.f_globals.get("__name__")).startswith(modules):
            return True
        frame = frame.f_back
    return False


def _raise_in(thread: int, error: type[BaseException] | None) -> None:
    """Has CPython raise `error` in a thread as soon as it runs bytecode; None takes back what was not raised yet."""
    given = None if error is None else ctypes.py_object(error)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), given)
