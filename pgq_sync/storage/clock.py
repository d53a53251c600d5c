"""The time that rows get: the database's own, or that of a clock which a test has put in its place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from pgq_sync.storage.store import Clock, database_clock


class RowClock:
    """The clock of an application's stores, for which another one may stand in. Read from any thread."""

    def __init__(self) -> None:
        self.source: Clock = database_clock

    def __call__(self) -> datetime | None:
        return self.source()

    @contextmanager
    def replaced(self, source: Clock) -> Iterator[None]:
        """Has `source` tell the time meanwhile."""
        before, self.source = self.source, source
        try:
            yield
        finally:
            self.source = before
