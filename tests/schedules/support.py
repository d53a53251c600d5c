"""What the tests of schedules share: an application whose clock they move."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

from pgq_sync import JobRecord, PgQueuer, Schedule, Settings
from pgq_sync.storage.store import Store

START = datetime(2031, 5, 17, 11, 40, tzinfo=timezone.utc)
NOON = datetime(2031, 5, 17, 12, tzinfo=timezone.utc)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
GRACE = Settings().misfire_grace


def utc(text: str) -> datetime:
    """The instant of "2026-03-29 01:00" in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc)


class Application(PgQueuer):
    """One on a store that is given."""

    def __init__(self, store: Store) -> None:
        super().__init__(None, Settings(), None)
        self._given = store

    @property
    def store(self) -> Store:
        return self._given


class Timed:
    """Processes that share schedules, and the clock of all of them.

    Args:
        open_store: the store as another process has it.
        dsn: of the database, if there is one.
    """

    def __init__(self, open_store: Callable[[], Store], dsn: str | None) -> None:
        self.now = START
        self.open_store = open_store
        self.dsn = dsn
        self.store = open_store()
        self.pgq = Application(self.store)

    def deploy(self, *schedules: tuple[str, dict[str, Any]], name: str = "cleanup") -> PgQueuer:
        """Starts a worker of a new version of the application, whose code has these expressions, and stops it at once."""
        application = Application(self.open_store())
        for expression, options in schedules:
            application.schedule(name, expression, **options)(nothing)
        application.store.schedules.declare(application.registry.schedules())
        return application

    def tick(self, *entrypoints: str, queues: Sequence[str] | None = None, grace: timedelta = GRACE) -> float | None:
        """What a scheduler does when it looks; it serves "cleanup" if nothing is named."""
        return self.store.schedules.tick(entrypoints or ("cleanup",), queues, grace)

    def tick_at(self, moment: datetime, *entrypoints: str) -> float | None:
        """What a scheduler does when it comes to look at this time."""
        self.now = moment
        return self.tick(*entrypoints)

    def jobs(self) -> list[JobRecord]:
        """The jobs so far, the first one first."""
        return sorted(self.store.operations().find(limit=100_000), key=lambda job: job.id)

    def dues(self) -> list[datetime]:
        """For which times jobs were enqueued, in that order."""
        return [due_at(job) for job in self.jobs()]


def nothing(schedule: Schedule) -> None: ...


def due_at(job: JobRecord) -> datetime:
    assert job.headers is not None
    return datetime.fromisoformat(job.headers["pgq_schedule"]["due_at"])
