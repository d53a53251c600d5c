"""How commands show what they found: as tables for people, as JSON for machines."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import click

from pgq_sync.models import JobRecord

_PIPE = 1000  # columns where there is no terminal
_NARROWEST = 8
_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def print_table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Columns as wide as they need to be; where a line would be wider than the terminal, the widest ones are cut."""
    lines = [heads, *(tuple(map(_printable, row)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    edge = shutil.get_terminal_size((120, 24)).columns if sys.stdout.isatty() else _PIPE
    while sum(widths) + 2 * (len(widths) - 1) > edge and max(widths) > _NARROWEST:
        widths[widths.index(max(widths))] -= 1
    for line in lines:
        cells = (_cut(cell, width).ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(cells).rstrip()[:edge])


def print_json(found: Any) -> None:
    """Dataclasses, and lists of them, as JSON."""
    click.echo(json.dumps(_plain(found), indent=2))


def last_error(record: JobRecord) -> str:
    """The first line of a job's latest error."""
    lines = str(record.errors[-1].get("message", "")).splitlines() if record.errors else []
    return lines[0] if lines else ""


def age(duration: timedelta) -> str:
    """A duration in its largest unit."""
    seconds = max(int(duration.total_seconds()), 0)
    return next(f"{seconds // size} {unit}" for unit, size in _UNITS if seconds >= size or size == 1)


def _cut(cell: str, width: int) -> str:
    return cell if len(cell) <= width else cell[: width - 2] + ".."


def _printable(cell: str) -> str:
    """`cell` without what a terminal would take for an order."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in cell)


def _plain(value: Any) -> Any:
    """`value` as JSON can express it: durations in seconds, bytes that are no UTF-8 with escapes."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    return str(value) if isinstance(value, UUID) else value
