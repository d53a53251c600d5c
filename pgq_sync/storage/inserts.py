"""Enqueuing on PostgreSQL: one statement, on whatever connection and in whatever transaction."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any

from pgq_sync.errors import DuplicateJob
from pgq_sync.models import JobId, OnConflict
from pgq_sync.storage.arrays import blobs, floats, integers, texts
from pgq_sync.storage.database import Session, atomic
from pgq_sync.storage.intake import CheckedJob
from pgq_sync.storage.names import Names
from pgq_sync.storage.statements import statements
from pgq_sync.storage.store import Clock

# Of payloads without dedupe keys in one statement: they are sent as twice so many digits, and kept in several copies until
# they are. A message of a gigabyte would end the connection.
MOST_BYTES = 20_000_000


class PostgresIntake:
    """Enqueues on one session."""

    def __init__(self, session: Session, names: Names, clock: Clock) -> None:
        self._session = session
        self._sql = statements(names)
        self._clock = clock

    def add(self, jobs: Sequence[CheckedJob], *, on_conflict: OnConflict, notify: bool) -> list[JobId | None]:
        common = {"now": text(self._clock()), "notify": notify}
        if len(jobs) == 1 and (rows := self._session.run(self._sql["enqueue_one"], _one(jobs[0]) | common)):
            return [rows[0][0]]
        if any(job.dedupe_key is not None for job in jobs):
            return self._add_keyed(jobs, on_conflict, common)
        if len(jobs) > 1 and sum(len(job.payload or b"") for job in jobs) > MOST_BYTES:
            with self.atomic():
                halves = jobs[: len(jobs) // 2], jobs[len(jobs) // 2 :]
                return [job_id for half in halves for job_id in self.add(half, on_conflict=on_conflict, notify=notify)]
        return [row[0] for row in self._session.run(self._sql["enqueue_batch"], common | _many(jobs) | _lanes(jobs))]

    def atomic(self) -> AbstractContextManager[None]:
        return atomic(self._session)

    def _add_keyed(self, jobs: Sequence[CheckedJob], on_conflict: OnConflict, common: dict[str, Any]) -> list[JobId | None]:
        keys = {
            "on_conflict": on_conflict,
            "dedupe_keys": texts([job.dedupe_key for job in jobs]),
            "dedupe_untils": texts([job.dedupe_until for job in jobs]),
        }
        rows = self._session.run(self._sql["enqueue_many"], common | _many(jobs) | keys)
        if rows[0][1]:
            job_id, _, ordinal = rows[0]
            raise DuplicateJob(str(jobs[ordinal - 1].dedupe_key), job_id)
        return [row[0] for row in rows]


def text(moment: datetime | None) -> str | None:
    """`moment` as a statement takes it: as text, since not every driver writes datetimes alike."""
    return None if moment is None else moment.isoformat()


def _one(job: CheckedJob) -> dict[str, Any]:
    return {
        "entrypoint": job.entrypoint,
        "payload": job.payload,
        "priority": job.priority,
        "due_at": text(job.due_at),
        "delay": job.delay,
        "dedupe_key": job.dedupe_key,
        "dedupe_until": job.dedupe_until,
        "headers": job.headers,
        "queue": job.queue,
    }


def _many(jobs: Sequence[CheckedJob]) -> dict[str, Any]:
    return {
        "entrypoints": texts([job.entrypoint for job in jobs]),
        "payloads": blobs(job.payload for job in jobs),
        "priorities": integers(job.priority for job in jobs),
        "due_at": texts([text(job.due_at) for job in jobs]),
        "delays": floats(job.delay for job in jobs),
        "headers": texts([job.headers for job in jobs]),
        "queues": texts([job.queue for job in jobs]),
    }


def _lanes(jobs: Sequence[CheckedJob]) -> dict[str, Any]:
    """The lanes of a batch, each with how many jobs it has and when the first of them is due."""
    lanes: dict[tuple[str, str, int], _Lane] = {}
    for job in jobs:
        key = (job.queue, job.entrypoint, job.priority)
        if (lane := lanes.get(key)) is None:
            lanes[key] = lane = _Lane()
        lane.take(job)
    queues, entrypoints, priorities = zip(*lanes, strict=True)
    return {
        "number": random.getrandbits(31),
        "lane_queues": texts(queues),
        "lane_entrypoints": texts(entrypoints),
        "lane_priorities": integers(priorities),
        "lane_jobs": integers(lane.jobs for lane in lanes.values()),
        "lane_due_at": texts([text(lane.due_at) for lane in lanes.values()]),
        "lane_delays": floats(lane.delay for lane in lanes.values()),
    }


class _Lane:
    """What is told of one."""

    __slots__ = ("delay", "due_at", "jobs")

    def __init__(self) -> None:
        self.jobs = 0
        self.delay: float | None = None
        self.due_at: datetime | None = None

    def take(self, job: CheckedJob) -> None:
        self.jobs += 1
        if job.due_at is None:
            self.delay = job.delay if self.delay is None else min(self.delay, job.delay)
        else:
            self.due_at = job.due_at if self.due_at is None else min(self.due_at, job.due_at)
