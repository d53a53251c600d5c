"""What the main thread waits for: signals, crashes, the end of a drain. Put to by any thread, read by the one that waits."""

from __future__ import annotations

import math
import queue
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Generic, TypeVar

ENDED = "ended"  # the listener: nothing is left to do
EXHAUSTED = "exhausted"  # the watchdog: more threads are stuck than can be replaced
IDLE = "idle"  # the slots: the last running job has finished
Mail = TypeVar("Mail")  # what is delivered besides the numbers of signals

_GLANCE = 0.5  # seconds in which a signal is noticed at the latest


class Mailbox(Generic[Mail]):
    """The mail, in the order of its arrival."""

    def __init__(self) -> None:
        # A SimpleQueue, since a signal's handler may put to it whatever the main thread is doing.
        self._mail: queue.SimpleQueue[int | Mail] = queue.SimpleQueue()
        self.signalled = False  # whether a signal has come

    def put(self, mail: int | Mail) -> None:
        """Adds mail, from any thread and from a signal's handler."""
        self.signalled = self.signalled or isinstance(mail, int)
        self._mail.put(mail)

    def next(self, deadline: float | None) -> int | Mail | None:
        """The next mail, or None if there is none until `deadline` (of the monotonic clock)."""
        while True:
            left = math.inf if deadline is None else deadline - time.monotonic()
            try:
                # Not longer: a signal that the system delivers to another thread does not end the main thread's wait,
                # and its handler runs only when that thread comes round.
                return self._mail.get(timeout=max(min(left, _GLANCE), 0))
            except queue.Empty:
                if left <= 0:
                    return None

    def clear(self) -> None:
        """Throws away what nobody has waited for."""
        try:
            while True:
                self._mail.get_nowait()
        except queue.Empty:
            pass

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Has SIGTERM and SIGINT delivered here meanwhile, if this is the main thread: others cannot."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def handle(number: int, frame: FrameType | None) -> None:
            self.put(number)

        before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
