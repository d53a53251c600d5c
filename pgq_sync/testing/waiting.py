"""Waits for what another thread or process brings about."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

Value = TypeVar("Value")

_INTERVAL = 0.01  # seconds between two looks


def wait_until(condition: Callable[[], Value], timeout: timedelta | float = 5, *, message: str | None = None) -> Value:
    """Calls `condition` again and again until it gives something true, and returns that.

    Args:
        condition: called in this thread; an `AssertionError` of its own counts as not yet true.
        timeout: how long to wait at most, as a timedelta or in seconds.
        message: what is waited for, for the error.

    Raises:
        AssertionError: it did not come true in time; the message tells what `condition` gave at last.
    """
    __tracebackhide__ = True
    seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    deadline = time.monotonic() + seconds
    while True:
        raised: AssertionError | None = None
        try:
            value = condition()
            if value:
                return value
            last = repr(value)
        except AssertionError as error:
            raised, last = error, f"AssertionError: {error}"
        if time.monotonic() >= deadline:
            raise AssertionError(
                f"{message or _named(condition)} did not come true within {seconds:g} s: at last it was {last}"
            ) from raised
        time.sleep(_INTERVAL)


def _named(condition: Callable[..., object]) -> str:
    return str(getattr(condition, "__qualname__", None) or repr(condition))
