"""Stops workers that were started and never stopped, when the interpreter exits.

Without that it would wait for the slots' threads for ever: the pool's own exit hook joins them before anything else.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol


class Stoppable(Protocol):
    """What can be stopped."""

    def stop(self) -> object: ...


_started: weakref.WeakSet[Stoppable] = weakref.WeakSet()
_lock = threading.Lock()
_registered = False


def stop_at_exit(worker: Stoppable) -> None:
    """Has `worker` stopped, in good order, when the main thread has ended; one that is stopped by then is left alone."""
    global _registered  # one hook for the process
    with _lock:
        _started.add(worker)
        if not _registered:
            # The only hook that runs before the pools' own; concurrent.futures uses it in every version since 3.9.
            register = getattr(threading, "_register_atexit", None)
            if register is not None:
                register(_stop_all)
            if hasattr(os, "register_at_fork"):
                os.register_at_fork(after_in_child=_forget)
            _registered = True


def _forget() -> None:
    # A forked child has none of its parent's threads: the workers are the parent's to stop.
    global _lock
    _lock = threading.Lock()
    _started.clear()


def _stop_all() -> None:
    for worker in list(_started):
        worker.stop()
