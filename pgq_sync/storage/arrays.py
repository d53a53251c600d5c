"""Lists as PostgreSQL's array literals, which a statement casts: one text per column, which every driver sends alike.

The drivers' own dumpers look at each item by itself, which took longer than the statement.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_BETWEEN = "\0"  # which no text has that PostgreSQL stores


def texts(values: Sequence[str | None]) -> str:
    """For `::text[]`, and whatever else is written as text."""
    if values and None not in values:
        joined = _BETWEEN.join(values)  # type: ignore[arg-type]
        # Else one of them holds what separates them: the driver refuses it.
        if joined.count(_BETWEEN) == len(values) - 1:
            return '{"' + _escaped(joined).replace(_BETWEEN, '","') + '"}'
    return _array("NULL" if value is None else f'"{_escaped(value)}"' for value in values)


def blobs(values: Iterable[bytes | None]) -> str:
    """For `::bytea[]`."""
    return _array("NULL" if value is None else f'"\\\\x{value.hex()}"' for value in values)


def integers(values: Iterable[int]) -> str:
    """For arrays of any whole numbers."""
    return _array(map(int.__repr__, values))  # and not what an enum says of itself


def floats(values: Iterable[float | None]) -> str:
    """For `::float8[]`."""
    return _array("NULL" if value is None else float.__repr__(value) for value in values)


def booleans(values: Iterable[bool]) -> str:
    """For `::boolean[]`."""
    return _array("t" if value else "f" for value in values)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _array(items: Iterable[str]) -> str:
    return "{" + ",".join(items) + "}"
