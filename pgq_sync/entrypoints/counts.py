"""Numbers that count something."""

from __future__ import annotations

from typing import Any


def check_from_one(name: str, value: Any, *, whole: bool = True) -> None:
    """Raises TypeError or ValueError unless `value` is a number from 1 up."""
    accepted = f"a {'whole ' if whole else ''}number from 1 up is accepted"
    if not isinstance(value, int if whole else (int, float)) or isinstance(value, bool):
        raise TypeError(f"{name}={value!r}: {accepted}")
    if not value >= 1:
        raise ValueError(f"{name}={value!r}: {accepted}")
