"""Records the statements that a process sends, where psycopg sends them: that works on every server, and per process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import psycopg

from pgq_sync.storage.names import Names
from pgq_sync.storage.statements import statements

OTHER = "other"


@contextmanager
def recorded_statements() -> Iterator[list[str]]:
    """The statements that are sent meanwhile, by the names that pgq-sync gives them; one that has none is "other"."""
    sent: list[str] = []  # many threads append to it: unlike adding to a counter, that loses nothing
    names = {sql.encode(): name for name, sql in statements(Names()).items()}
    execute = psycopg.Cursor.execute

    def recording(cursor: psycopg.Cursor[Any], query: Any, *arguments: Any, **options: Any) -> Any:
        sent.append(names.get(query, OTHER) if isinstance(query, bytes) else OTHER)
        return execute(cursor, query, *arguments, **options)

    with patch.object(psycopg.Cursor, "execute", recording):
        yield sent
