"""What must become of the workers, and of the jobs of those that die."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from pgq_sync.models import Beat, Rescued, WorkerInfo
from tests.storage.machine.model import Jobs
from tests.storage.machine.rows import Row

GIVEN_UP = timedelta(minutes=10)


class Fleet:
    """The registered workers, and those that have a session.

    Args:
        jobs: what they have claimed.
        liveness_limit: of all of them.
    """

    def __init__(self, jobs: Jobs, liveness_limit: timedelta) -> None:
        self._jobs = jobs
        self._limit = liveness_limit
        self.beats: dict[UUID, datetime | None] = {}  # None: it has given up by itself
        self.seated: set[UUID] = set()

    def beat(self, worker: WorkerInfo, beat: Beat) -> None:
        """A sign of life; it tells for how long the worker was silent, and when the most silent of the others is overdue."""
        now = self._jobs.now
        before = [seen for worker_id, seen in self.beats.items() if worker_id == worker.worker_id]
        _agree("silent for", beat.silence, [math.inf if seen is None else (now - seen).total_seconds() for seen in before])
        self.beats[worker.worker_id] = now
        others = [seen for worker_id, seen in self.beats.items() if worker_id != worker.worker_id]
        left = [-math.inf if seen is None else (seen + self._limit - now).total_seconds() for seen in others]
        _agree("overdue in", beat.overdue_in, left)

    def deregister(self, worker_id: UUID, clean: bool) -> None:
        if clean:
            self.beats.pop(worker_id, None)
        elif worker_id in self.beats:
            self.beats[worker_id] = None

    def rescue(self, rescuer: UUID, thorough: bool, rescued: Sequence[Rescued], left: Collection[UUID]) -> list[Row]:
        """What waits again. A dead worker that had claimed jobs may be remembered until the next time."""
        dead = self._dead(rescuer, thorough)
        orphans = [row for row in self._jobs.having("running") if row.worker_id in dead]
        counts = Counter(row.worker_id for row in orphans)
        # The workers here are named after their ids.
        expected = {str(worker_id): counts[worker_id] for worker_id in dead}
        told = {each.worker: each.jobs for each in rescued}
        assert told == expected, f"rescue told {told}, and not {expected}"
        assert len(rescued) == len(told), f"told twice: {rescued}"
        for worker_id in dead:
            if worker_id not in left or worker_id not in counts:
                self.beats.pop(worker_id, None)
        assert set(left) == self.beats.keys(), f"registered are {set(left)}, and not {set(self.beats)}"
        return [
            self._jobs.put_back(row.id, attempts=row.attempts - 1, rescues=row.rescues + 1, errors=row.errors + 1)
            for row in orphans
        ]

    def _dead(self, rescuer: UUID, thorough: bool) -> set[UUID]:
        now, own = self._jobs.now, self.beats.get(rescuer)
        if own is None or own <= now - self._limit:
            return set()
        others = {worker_id: beat for worker_id, beat in self.beats.items() if worker_id != rescuer}
        silent = {worker_id for worker_id, beat in others.items() if beat is None or beat <= now - self._limit}
        given_up = {worker_id for worker_id, beat in others.items() if beat is None or beat <= now - GIVEN_UP}
        if thorough:
            silent |= {
                row.worker_id
                for row in self._jobs.having("running")
                if row.worker_id and row.worker_id not in self.beats and row.claimed_at and row.claimed_at <= now - self._limit
            }
        return given_up | (silent - self.seated)


def _agree(what: str, told: float | None, expected: Collection[float]) -> None:
    least = min(expected, default=None)
    if told is None or least is None or math.isinf(least):
        # Who has given up counts as silent since long ago.
        agreed = told == least or (told is not None and least is not None and abs(told) > 10**9)
    else:
        agreed = math.isclose(told, least, abs_tol=1e-3)
    assert agreed, f"{what} {told} s, and not {least}"
