"""Runs a coroutine in the slot's thread until it ends, or is stopped: at its deadline, or when somebody cancels the job."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from asgiref.sync import async_to_sync

from pgq_sync.engine.attempt import Attempt
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
        with context.waking(lambda: _end(stop, context), idle=False):
            return async_to_sync(run_stoppable)()
    except asyncio.CancelledError:
        context.check()
        raise


def _end(stop: _Stop, context: Context) -> None:
    """Where it waits for the event loop the coroutine is cancelled, and where for a query in the slot's thread, that is."""
    first = stop()
    surrounding = context.surrounding if isinstance(context, Attempt) and context.timed_out else None
    if first and surrounding is not None:
        surrounding.discard()
        # In a thread of its own, as the engine does: the server may be slow to take the request.
        threading.Thread(target=surrounding.cancel, name="pgq-cancel", daemon=True).start()


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

    def __call__(self) -> bool:
        """Tells whether this was the first call."""
        with self._lock:
            first, self._called = not self._called, True
            cancel = self._cancel
        if first and cancel is not None:
            try:
                cancel()
            except RuntimeError:
                pass  # the loop is closed: it has ended by itself
        return first
