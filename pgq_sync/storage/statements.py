"""Reads the named statements from the .sql files beside this module, and the migrations in their order."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pgq_sync.storage.names import Names

_NAME = re.compile(r"^-- name: (\w+)\n((?:--.*\n)+)", re.MULTILINE)
_FOLDER = Path(__file__).parent / "sql"


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered change of the schema."""

    version: int
    title: str
    sql: str


@cache
def statements(names: Names) -> Mapping[str, str]:
    """Every named statement, with this installation's names filled in."""
    return {name: names.fill(sql) for name, sql in _templates()}


@cache
def migrations() -> tuple[Migration, ...]:
    """The migrations, the first one first; their names are not filled in yet."""
    return tuple(_migration(path) for path in sorted((_FOLDER / "migrations").glob("*.sql")))


def _templates() -> Iterator[tuple[str, str]]:
    for path in sorted(_FOLDER.glob("*.sql")):
        text = path.read_text(encoding="utf-8")
        heads = list(_NAME.finditer(text))
        for head, following in zip(heads, [*heads[1:], None], strict=True):
            yield head[1], text[head.end() : following.start() if following else None].strip()


def _migration(path: Path) -> Migration:
    number, _, title = path.stem.partition("_")
    return Migration(int(number), title.replace("_", " "), path.read_text(encoding="utf-8"))
