"""An event that also wakes those who wait for something else at the same time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

logger = logging.getLogger("pgq_sync.engine")


class Signal(threading.Event):
    """An event with callbacks. It is set once and never cleared."""

    def __init__(self) -> None:
        super().__init__()
        self._callbacks: dict[object, Callable[[], object]] = {}  # by what each block has of its own

    def set(self) -> None:
        """Sets the event and calls the callbacks, in this thread."""
        super().set()
        for callback in self._callbacks.copy().values():
            _call(callback)

    @contextmanager
    def calling(self, callback: Callable[[], object]) -> Iterator[None]:
        """Has `callback` called when the event is set, at once if it is; maybe twice, and maybe once more just after leaving."""
        key = object()
        self._callbacks[key] = callback
        try:
            # Looked at after the callback was added, as `set` calls back after setting: one of the two sees the other.
            if self.is_set():
                _call(callback)
            yield
        finally:
            del self._callbacks[key]


def _call(callback: Callable[[], object]) -> None:
    # It may be a user's, and whoever sets a signal has more to do: the thread that stops the worker, say.
    try:
        callback()
    except Exception:
        logger.exception("a job that waits could not be woken")
