"""Runs a coroutine in the slot's thread until it ends, or is stopped: at its deadline, or when somebody cancels the job."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from asgiref.sync import async_to_sync

from pgq_sync.entrypoints.context import Context


def run(start: Callable[[], Coroutine[Any, Any, Any]], context: Context) -> Any:
    """What the coroutine returns that `start` makes.

    By asgiref, and not by asyncio.run: what it calls by sync_to_async, Django's asynchronous queries included, so runs in
    this thread, on its connections and in its transaction.

    Raises:
        JobTimeout, Cancelled: it was to end; it got a CancelledError where it was waiting.
        RuntimeError: this thread has an event loop that runs.
    """
    stop = _Stop()

    async def run_stoppable() -> Any:
        stop.watch(asyncio.get_running_loop(), asyncio.current_task())
        return await start()

    try:
        with context.waking(stop, idle=False):
            return async_to_sync(run_stoppable)()
    except asyncio.CancelledError:
        context.check()
        raise


class _Stop:
    """Cancels a task of asyncio, once: what it does then to clean up is left alone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancel: Callable[[], object] | None = None
        self._called = False

    def watch(self, loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any] | None) -> None:
        assert task is not None  # noqa: S101  a coroutine that runs has one
        with self._lock:
            self._cancel = lambda: loop.call_soon_threadsafe(task.cancel)
            called = self._called
        if called:
            task.cancel()

    def __call__(self) -> None:
        with self._lock:
            first, self._called = not self._called, True
            cancel = self._cancel
        if first and cancel is not None:
            try:
                cancel()
            except RuntimeError:
                pass  # the loop is closed: it has ended by itself
