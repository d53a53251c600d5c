"""Durations as callers give them: a timedelta, or a number of seconds. The one gate through which they enter."""

from __future__ import annotations

import math
from datetime import timedelta

_UNREADABLE = 10**300


def in_seconds(
    name: str,
    value: object,
    *,
    positive: bool = False,
    most: timedelta | None = timedelta.max,
    otherwise: str = "",
) -> float:
    """`value`, a timedelta or a number of seconds, in seconds.

    Args:
        name: of the argument, for errors.
        value: what was given for it.
        positive: whether zero is refused too.
        most: the longest duration that can be used; None: any, infinity included.
        otherwise: what else the argument takes, for errors: ", or None for no timeout".

    Raises:
        TypeError: it is neither.
        ValueError: it is negative, not a number, or too long.
    """
    accepted = f"a timedelta or a number of seconds {_range(positive, most)} is accepted{otherwise}"
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = _as_float(value)
    else:
        raise TypeError(f"{name}={value!r}: {accepted}")
    longest = math.inf if most is None else most.total_seconds()
    # NaN compares as false.
    if not 0 <= seconds <= longest or (positive and seconds == 0):
        raise ValueError(f"{name}={shown(value)}: {accepted}")
    return seconds


def _range(positive: bool, most: timedelta | None) -> str:
    if most is None:
        return "above zero" if positive else "from zero up"
    return f"above zero, up to {most.days:,} days," if positive else f"from zero to {most.days:,} days"


def _as_float(seconds: float) -> float:
    try:
        return float(seconds)
    except OverflowError:
        return math.inf if seconds > 0 else -math.inf  # a whole number of 400 digits


def shown(value: timedelta | float) -> str:
    """A duration as errors tell it."""
    if isinstance(value, int) and abs(value) >= _UNREADABLE:
        return "(a number of more than 300 digits)"
    return str(value) if isinstance(value, timedelta) else repr(value)
