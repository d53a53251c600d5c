"""How these tests wait: for a condition, as long as the scale allows."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import psycopg

from tests.faults.scale import SCALE


def within(seconds: float, condition: Callable[[], Any], what: str) -> float:
    """Returns, when `condition` holds, how many seconds that took; fails the test when it does not come to hold.

    A database that is away, or on its way back, counts as "not yet".
    """
    started = time.monotonic()
    while not _holds(condition):
        assert time.monotonic() - started < seconds, f"not within {seconds:g} s: {what}"
        time.sleep(0.01)  # between two looks at the condition
    return time.monotonic() - started


def eventually(condition: Callable[[], Any], what: str) -> float:
    """The same with a limit that only a failing test reaches."""
    return within(SCALE.patience, condition, what)


def _holds(condition: Callable[[], Any]) -> Any:
    try:
        return condition()
    except psycopg.OperationalError:
        return False
