"""The numbers by which executors are told how often to try again, and when."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pgq_sync.durations import in_seconds, shown


def check_from_one(name: str, value: Any, *, whole: bool = True) -> None:
    """Raises TypeError or ValueError unless `value` is a number from 1 up."""
    accepted = f"a {'whole ' if whole else ''}number from 1 up is accepted"
    if not isinstance(value, int if whole else (int, float)) or isinstance(value, bool):
        raise TypeError(f"{name}={value!r}: {accepted}")
    if not value >= 1:
        raise ValueError(f"{name}={value!r}: {accepted}")


def read_delays(initial_delay: timedelta | float, max_delay: timedelta | float) -> tuple[float, float]:
    """Both in seconds.

    Raises:
        TypeError, ValueError: one is no duration, or the first is cut off by the second, which may be a default.
    """
    first, longest = in_seconds("initial_delay", initial_delay), in_seconds("max_delay", max_delay)
    if first > longest:
        given = f"initial_delay={shown(initial_delay)} is longer than max_delay={shown(max_delay)}"
        raise ValueError(f"{given}: give a longer max_delay")
    return first, longest
