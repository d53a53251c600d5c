"""The schedules of the store in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import datetime

from pgq_sync.models import DeclaredSchedule
from pgq_sync.storage.intake import check
from pgq_sync.storage.store import Intake, NextTick
from pgq_sync.storage.ticks import tick_job


class MemorySchedules:
    """When each schedule is due.

    Args:
        intake: where the ticks' jobs are enqueued.
        now: what time it is.
    """

    def __init__(self, intake: Intake, now: Callable[[], datetime]) -> None:
        self._intake = intake
        self._now = now
        self._lock = threading.Lock()
        self._due: dict[DeclaredSchedule, datetime] = {}

    def declare(self, schedules: Sequence[DeclaredSchedule], next_tick: NextTick) -> None:
        with self._lock:
            for schedule in schedules:
                same = [each for each in self._due if (each.name, each.expression) == (schedule.name, schedule.expression)]
                kept = [self._due.pop(each) for each in same if each.timezone == schedule.timezone]
                for outdated in same:
                    self._due.pop(outdated, None)
                self._due[schedule] = kept[0] if kept else next_tick(schedule, self._now())

    def tick(self, names: Sequence[str], next_tick: NextTick) -> float | None:
        with self._lock:
            now = self._now()
            for schedule, due in list(self._due.items()):
                if schedule.name in names and due <= now:
                    following = next_tick(schedule, now)
                    self._intake.add([check(tick_job(schedule, due), max_payload=0)], on_conflict="raise", notify=True)
                    self._due[schedule] = following
            dues = [due for schedule, due in self._due.items() if schedule.name in names]
        return min((max((due - now).total_seconds(), 0.0) for due in dues), default=None)
