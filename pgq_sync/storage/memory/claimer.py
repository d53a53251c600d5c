"""Claims for one worker on the store in memory. The store wakes it; it polls for what was enqueued without a notification."""

from __future__ import annotations

import dataclasses
import heapq
import math
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta

from pgq_sync.models import Claim, Claimed, Peers, Recovered, Room, WorkerInfo
from pgq_sync.storage.claiming import LocalLimits
from pgq_sync.storage.lanes import claim_order, serving
from pgq_sync.storage.limit_rows import ANY, LimitRow
from pgq_sync.storage.memory.rows import UNCLAIMED, MemoryKey
from pgq_sync.storage.memory.state import MemoryState

_LONGEST_WAIT = 86_400.0  # seconds: some systems cannot wait for more than some weeks


class MemoryClaimer:
    """Claims for one worker. Methods with an underscore expect the state's lock to be held.

    Args:
        state: of the store.
        worker: for whom.
        poll_interval: how often to look without having been woken.
        limits: what the worker itself knows of the limits.
        on_schedules: called when schedules have changed, in the thread that changed them.
    """

    def __init__(
        self,
        state: MemoryState,
        worker: WorkerInfo,
        poll_interval: timedelta,
        limits: LocalLimits,
        on_schedules: Callable[[], None],
    ) -> None:
        self.peers = Peers()
        self.wants_slot = False
        self.exclusive = self.hears = True
        self.worker_id = worker.worker_id
        self.schedules_changed = on_schedules
        self._state = state
        self._worker = worker
        self._poll_interval = poll_interval.total_seconds()
        self._limits = limits
        self._serves = serving(worker.queues, worker.entrypoints)
        self._event = threading.Event()
        # Lanes whose due jobs wait for a limit or a slot, with the seconds until it is worth another look; None: until woken.
        self._waiting: dict[MemoryKey, float | None] = {}
        self._slotless: list[int] = []  # the priorities of those that wait for a slot

    @property
    def held_back(self) -> bool:
        return any(self._limited(entrypoint) for _, entrypoint, _, _ in self._waiting)

    def arm(self) -> None:
        self._event.clear()

    def wake(self) -> None:
        if not self._event.is_set():
            self._event.set()

    def cancel(self) -> None:
        """A claim here waits for nothing."""

    def ended(self, entrypoints: Iterable[str]) -> None:
        """Every claim here looks everywhere."""

    def wait(self, *, for_room: bool = False, until: float = math.inf) -> None:
        due = self._next_due(limited_only=for_room)
        left = max(until - time.monotonic(), 0.0)
        longest = min(left, _LONGEST_WAIT if for_room else self._poll_interval, _LONGEST_WAIT)
        self._event.wait(longest if due is None else min(due, longest))

    def recover(self, claims: Sequence[Claim]) -> Recovered:
        known = {(claim.job.id, claim.fence) for claim in claims}
        with self._state.lock:
            mine = [row for row in self._state.jobs.values() if row.status == "running" and row.worker_id == self.worker_id]
            unknown = [row for row in mine if (row.id, row.fence) not in known]
            for row in unknown:
                self._state.put(dataclasses.replace(row, **UNCLAIMED, attempt=row.attempt - 1))
            lost = [claim for claim in claims if not self._holds(claim)]
        if unknown:
            self._state.wake()
        return Recovered(lost)

    def claim(self, room: Room, *, thorough: bool = False) -> Claimed:
        with self._state.lock:
            now, fence = self._state.now(), self._state.next_fence()
            plain: list[Claim] = []
            careful: list[Claim] = []
            lanes = self._lanes()
            self._limits.learn({name: row.concurrency_limit for (name, queue), row in self._state.limits.items() if queue == ANY})
            self._waiting.clear()
            self._slotless.clear()
            for lane in lanes:
                taken = len(plain) + len(careful)
                if not self._needs_care(lane):
                    plain += self._claim(lane, room.ahead - taken, fence, now)
                elif lane[3] and (not room.quarantine or any(claim.rescues >= 2 for claim in careful)):
                    self._waiting[lane] = None
                else:
                    careful += self._claim_carefully(lane, min(room.now, room.ahead) - taken, fence, now)
            others = [lane[2] for lane in lanes if not self._needs_care(lane) and self._state.first_due(lane, now) is not None]
            self.wants_slot = bool(self._slotless) and max(self._slotless) >= max(others, default=-sys.maxsize)
            return Claimed(sorted(plain, key=claim_order), sorted(careful, key=claim_order))

    def _needs_care(self, lane: MemoryKey) -> bool:
        return lane[3] or self._limited(lane[1])

    def _lanes(self) -> list[MemoryKey]:
        """The served lanes in the order in which to claim; those of equal priority take turns, as in PostgreSQL."""
        lanes = self._state.lanes
        if lanes:
            first = next(iter(lanes))
            self._state.lanes = defaultdict(list, {**{lane: lanes[lane] for lane in lanes if lane != first}, first: lanes[first]})
        return sorted(filter(self._serves_now, lanes), key=lambda lane: -lane[2])

    def _serves_now(self, lane: MemoryKey) -> bool:
        queue, entrypoint, _, _ = lane
        return self._serves(queue, entrypoint) and not self._state.paused(entrypoint, queue)

    def _limited(self, entrypoint: str) -> bool:
        row = self._state.limits.get((entrypoint, ANY))
        return entrypoint in self._limits.names or bool(row and (row.concurrency_limit or row.requests_per_second))

    def _claim_carefully(self, lane: MemoryKey, room: int, fence: int, now: datetime) -> list[Claim]:
        row = self._state.limits.get((lane[1], ANY)) or LimitRow(entrypoint=lane[1], queue=ANY)
        allowed = min(self._limits.room(lane[1]), self._fleet_room(row, now), 1 if lane[3] else sys.maxsize)
        claims = self._claim(lane, min(room, allowed), fence, now)
        self._limits.take(lane[1], len(claims))
        tokens = row.tokens_at(now)
        # Where the clock was set back, the bucket fills from the new time on.
        if tokens is not None and (claims or (row.refilled_at and row.refilled_at > now)):
            row = self._state.limits[lane[1], ANY] = dataclasses.replace(row, tokens=tokens - len(claims), refilled_at=now)
        if self._state.first_due(lane, now) is not None:
            self._waiting[lane] = self._limits.next_room(lane[1]) or _next_token(row, now)
            if len(claims) < allowed:
                self._slotless.append(lane[2])
        return claims

    def _fleet_room(self, row: LimitRow, now: datetime) -> int:
        """How many more of the entrypoint's jobs its limit leaves."""
        tokens = row.tokens_at(now)
        room = sys.maxsize if tokens is None else int(tokens + 1e-6)
        if row.concurrency_limit:
            jobs = self._state.jobs.values()
            running = sum(job.status == "running" and job.entrypoint == row.entrypoint for job in jobs)
            room = min(room, row.concurrency_limit - running)
        return room

    def _claim(self, lane: MemoryKey, room: int, fence: int, now: datetime) -> list[Claim]:
        claims: list[Claim] = []
        while len(claims) < room and (job_id := self._state.first_due(lane, now)) is not None:
            heapq.heappop(self._state.lanes[lane])
            claims.append(self._state.claim(job_id, self.worker_id, fence, now))
        return claims

    def _holds(self, claim: Claim) -> bool:
        row = self._state.jobs.get(claim.job.id)
        return row is not None and (row.status, row.worker_id, row.fence) == ("running", self.worker_id, claim.fence)

    def _next_due(self, limited_only: bool) -> float | None:
        """In how many seconds the next served job is due, or has room in its limit."""
        with self._state.lock:
            now = self._state.now()
            lanes = {lane: heap for lane, heap in self._state.lanes.items() if heap and self._serves_now(lane)}
            waiting = {} if limited_only else {lane: heap for lane, heap in lanes.items() if lane not in self._waiting}
            dues = [(heap[0][0] - now).total_seconds() for heap in waiting.values()]
            dues += [seconds for seconds in self._waiting.values() if seconds is not None]
        return max(min(dues), 0.0) if dues else None


def _next_token(row: LimitRow, now: datetime) -> float | None:
    """In how many seconds there will be a token; None where it is not for the lack of one that jobs wait."""
    tokens = row.tokens_at(now)
    if tokens is None or row.requests_per_second is None or tokens >= 1:
        return None
    return (1 - tokens) / row.requests_per_second


def claim_next(state: MemoryState, worker: WorkerInfo) -> Claim | None:
    """The claim of the job that comes first, as `Jobs.claim_next` documents it."""
    serves = serving(worker.queues, worker.entrypoints)
    with state.lock:
        now, lanes = state.now(), state.lanes
        served = [lane for lane in lanes if serves(*lane[:2]) and not state.paused(lane[1], lane[0])]
        due = {lane: job_id for lane in served if (job_id := state.first_due(lane, now)) is not None}
        if not due:
            return None
        first = min(due, key=lambda lane: (-lane[2], lanes[lane][0]))
        heapq.heappop(lanes[first])
        return state.claim(due[first], worker.worker_id, state.next_fence(), now)
