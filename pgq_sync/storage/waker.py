"""Ends a wait on a socket from another thread: an event that a selector can wait for, on Windows too."""

from __future__ import annotations

import math
import selectors
import socket
import time
from typing import Protocol

_LONGEST_WAIT = 86_400.0  # seconds: some systems cannot wait for more than some weeks


class Wakeable(Protocol):
    """Whoever waits and can be woken."""

    def wake(self) -> None: ...


class Waker:
    """An event with a file descriptor that becomes readable when the event is set.

    Whoever waits asks `is_set` first, then selects, drains what is readable, and clears before the next look.
    """

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._flag = False

    def fileno(self) -> int:
        return self._reader.fileno()

    def is_set(self) -> bool:
        return self._flag

    def set(self) -> None:
        """Sets the event. Safe from any thread, also after `close`; costs one comparison where it is set already."""
        if self._flag:
            return
        self._flag = True
        try:
            self._writer.send(b"!")
        except (BlockingIOError, OSError):
            pass  # full means readable anyway; closed means that nobody waits any more

    def clear(self) -> None:
        """Clears the event. Costs one comparison where it is not set."""
        if self._flag:
            self.drain()
            self._flag = False

    def drain(self) -> None:
        """Takes what makes the descriptor readable; to be called when it is.

        A setter may have raised the flag before a `clear` and written after it: then a wait ends for nothing, once.
        """
        try:
            self._reader.recv(4096)
        except BlockingIOError:
            pass

    def wait(self, until: float = math.inf) -> None:
        """Blocks until the event is set, or until a time of the monotonic clock; for whoever waits for nothing else."""
        if self._flag:
            return
        with selectors.DefaultSelector() as selector:
            selector.register(self, selectors.EVENT_READ)
            if selector.select(min(max(until - time.monotonic(), 0.0), _LONGEST_WAIT)):
                self.drain()

    def close(self) -> None:
        self._reader.close()
        self._writer.close()
