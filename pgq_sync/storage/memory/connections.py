"""A caller's connection in memory: checked as on PostgreSQL, so that tests in memory hide no bug. Nothing runs on it.

Only which database it leads to is left aside: a project's tests may well run on SQLite.
"""

from __future__ import annotations

from typing import Any

from pgq_sync.storage.database import accepted
from pgq_sync.storage.store import OWN


def check_connection(connection: Any) -> None:
    """Refuses what is no connection to enqueue on.

    Raises:
        TypeError: it is of no kind that `bind` takes, or an async one.
        ConnectionError: it is closed.
    """
    if connection is not OWN:
        accepted(connection)
