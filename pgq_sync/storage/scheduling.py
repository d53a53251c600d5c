"""What schedulers and operators need of a store, to keep schedules and to fire them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

from pgq_sync.models import DeclaredSchedule, JobId, ScheduleRecord


class Schedules(Protocol):
    """The schedules, each known by its name and its expression. Expressions are written as `cron.normal` writes them."""

    def declare(self, schedules: Sequence[DeclaredSchedule]) -> None:
        """Notes schedules; those that are there keep when they are due next, unless their time zone changes, and their pause.

        Of a name of which one is to `clean_old`, the expressions that are not among these are removed.
        """

    def tick(self, entrypoints: Sequence[str], queues: Sequence[str] | None, grace: timedelta) -> float | None:
        """Enqueues the jobs of the schedules that are due, and moves these on; at most 1,000 jobs or so.

        Args:
            entrypoints: only schedules whose jobs are of these entrypoints
            queues: and in these queues; None: in any.
            grace: a tick that is older counts as missed.

        Returns:
            In how many seconds there is more to do, by the store's clock; None if nothing will be due before a change.
        """

    def records(self, name: str | None = None) -> list[ScheduleRecord]:
        """The schedules of that name, or all, by name and expression."""

    def put(self, schedule: DeclaredSchedule) -> ScheduleRecord:
        """Adds a schedule, or changes the one of the same name and expression; tells how it stands."""

    def pause(self, name: str, expressions: Sequence[str]) -> int:
        """Has these fire no more until `resume`; tells how many were not paused before."""

    def resume(self, name: str, expressions: Sequence[str]) -> int:
        """Has these fire again, beginning with the next tick; tells how many were paused."""

    def remove(self, name: str, expressions: Sequence[str]) -> int:
        """Forgets these; tells how many there were."""

    def run_now(self, name: str, expression: str) -> JobId | None:
        """Enqueues a job beside the schedule's own times; None if there is no such schedule."""
