"""What executors are told in numbers: durations, as a timedelta or in seconds, and counts."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any


def in_seconds(name: str, value: Any) -> float:
    """`value`, a timedelta or a number of seconds, in seconds.

    Raises:
        TypeError: it is neither.
        ValueError: it is negative, or no finite number.
    """
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(value) if abs(value) < 1e300 else math.inf  # a float holds no whole number of 400 digits
    else:
        raise TypeError(f"{name}={value!r}: a timedelta or a number of seconds is accepted")
    if not 0 <= seconds < math.inf:
        shown = value if isinstance(value, timedelta) else repr(value)
        raise ValueError(f"{name}={shown}: a timedelta or a number of seconds is accepted, finite and not negative")
    return seconds


def check_from_one(name: str, value: Any, *, whole: bool = True) -> None:
    """Raises TypeError or ValueError unless `value` is a number from 1 up."""
    accepted = f"a {'whole ' if whole else ''}number from 1 up is accepted"
    if not isinstance(value, int if whole else (int, float)) or isinstance(value, bool):
        raise TypeError(f"{name}={value!r}: {accepted}")
    if not value >= 1:
        raise ValueError(f"{name}={value!r}: {accepted}")
