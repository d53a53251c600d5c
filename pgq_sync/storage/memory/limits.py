"""Limits and pauses of the store in memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from pgq_sync.models import DeclaredLimit, LimitChange, LimitRecord
from pgq_sync.storage.limit_rows import ANY, LimitRow, normal
from pgq_sync.storage.memory.state import MemoryState


class MemoryLimits:
    """The limits on the jobs in memory."""

    def __init__(self, state: MemoryState) -> None:
        self._state = state

    def pause(self, *, entrypoint: str | None, queue: str | None) -> bool:
        return self._switch(entrypoint or ANY, queue or ANY, paused=True)

    def resume(self, *, entrypoint: str | None, queue: str | None) -> bool:
        return self._switch(entrypoint or ANY, queue or ANY, paused=False)

    def _switch(self, entrypoint: str, queue: str, *, paused: bool) -> bool:
        with self._state.lock:
            row = self._row(entrypoint, queue)
            changed = (row.paused_at is not None) != paused
            if changed:
                paused_at = self._state.now() if paused else None
                self._state.limits[entrypoint, queue] = dataclasses.replace(row, paused_at=paused_at)
        if changed:
            self._state.wake()
        return changed

    def records(self) -> list[LimitRecord]:
        with self._state.lock:
            rows = sorted(self._state.limits.values(), key=lambda row: (row.entrypoint, row.queue))
            return [self._record(row) for row in rows if row.paused_at or row.concurrency_limit or row.requests_per_second]

    def _record(self, row: LimitRow) -> LimitRecord:
        running = [job for job in self._state.jobs.values() if job.status == "running"]
        return LimitRecord(
            entrypoint=row.entrypoint or None,
            queue=row.queue or None,
            concurrency_limit=row.concurrency_limit,
            requests_per_second=row.requests_per_second,
            burst=row.burst,
            tokens=row.tokens_at(self._state.now()),
            running=sum(row.entrypoint in (ANY, job.entrypoint) and row.queue in (ANY, job.queue) for job in running),
            paused_at=row.paused_at,
        )

    def declare(self, limits: Sequence[DeclaredLimit], unlimited: Sequence[str]) -> list[LimitChange]:
        declared = {limit.entrypoint: limit for limit in [*map(DeclaredLimit, unlimited), *map(normal, limits)]}
        changes = []
        with self._state.lock:
            for _, limit in sorted(declared.items()):
                row = self._row(limit.entrypoint, ANY)
                if row.declared != limit:
                    self._state.limits[limit.entrypoint, ANY] = self._declared(row, limit)
                    if row.declared_at is not None:
                        changes.append(LimitChange(row.declared, limit))
        self._state.wake()
        return changes

    def _row(self, entrypoint: str, queue: str) -> LimitRow:
        return self._state.limits.get((entrypoint, queue)) or LimitRow(entrypoint=entrypoint, queue=queue)

    def _declared(self, row: LimitRow, limit: DeclaredLimit) -> LimitRow:
        now = self._state.now()
        before = row.tokens_at(now)
        # What was there, and no more than now fits in. Where there was no rate the bucket is full.
        tokens = limit.burst if limit.burst is None or before is None else min(before, limit.burst)
        return dataclasses.replace(
            row,
            concurrency_limit=limit.concurrency_limit,
            requests_per_second=limit.requests_per_second,
            burst=limit.burst,
            tokens=tokens,
            refilled_at=now,
            declared_at=now,
        )
