"""Claims that need care: jobs of limited entrypoints, and jobs in quarantine. Part of the claimer, in its thread.

Limits hold because a claim locks them first and counts in its next statement. What is believed here of lanes and limits
is a hint, as in lanes.py.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import chain
from typing import Any, NamedTuple

import msgspec
import psycopg

from pgq_sync.models import Claim, Job, Room, WorkerInfo
from pgq_sync.storage.claiming import LocalLimits
from pgq_sync.storage.lanes import EARLIEST, Found, Key, LaneMemory
from pgq_sync.storage.names import Names
from pgq_sync.storage.notifications import LaneNotice
from pgq_sync.storage.statements import statements
from pgq_sync.storage.store import Clock

_RIVAL = 0.01  # seconds until limits that another claim has locked are tried again, about
_FIRST_FULL = 0.05  # seconds until a limit that was reached by others is looked at again, doubled each time
_LONGEST_FULL = 1.0
_DURABLE = b"begin; set local synchronous_commit to on"


class Lane(NamedTuple):
    """A lane as a careful claim names it."""

    key: Key
    bound: datetime
    room: int
    quarantined: bool


class CarefulClaims:
    """Claims what must be claimed with care.

    Args:
        connection: the claimer's.
        names: the tables' names.
        worker: for whom.
        clock: the time that decides what is due.
        serves: tells of (queue, entrypoint) whether the worker serves it.
        limits: what the worker itself knows of the limits.
    """

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        names: Names,
        worker: WorkerInfo,
        clock: Clock,
        serves: Callable[[str, str], bool],
        limits: LocalLimits,
    ) -> None:
        self._connection = connection
        self._cursor = psycopg.Cursor(connection)
        self._cursor.format = psycopg.pq.Format.BINARY
        self._sql = {name: statements(names)[name].encode() for name in ("lock_limits", "claim_carefully")}
        self._worker = worker
        self._clock = clock
        self._limits = limits
        self._limited = frozenset(limits.names)
        self._lanes = LaneMemory(serves)
        self._quarantined = LaneMemory(serves)
        # How often in a row an entrypoint's limit was found reached; the lane is tried later and later.
        self._full: dict[str, int] = {}
        self._reached: set[Key] = set()  # lanes put off since so many of their jobs run

    def concerns(self, entrypoint: str) -> bool:
        """Whether jobs of this entrypoint are limited."""
        return entrypoint in self._limited

    def looked(self, found: Sequence[Found], limited: frozenset[str], now: float) -> list[Found]:
        """Takes over what of a full look is to be claimed with care, and returns the rest.

        Args:
            found: the lanes.
            limited: the entrypoints that the store knows to be limited.
            now: of the monotonic clock.
        """
        self._limited = limited | frozenset(self._limits.names)
        lanes = [lane for lane in found if lane.quarantined or lane.key[1] in self._limited]
        postponed = self._lanes.postponed()
        self._lanes.looked([lane for lane in lanes if not lane.quarantined], now)
        for key, until in postponed.items():
            self._lanes.postpone(key, until)
        self._quarantined.looked([lane for lane in lanes if lane.quarantined], now)
        self._full = {name: times for name, times in self._full.items() if any(lane.key[1] == name for lane in lanes)}
        return [lane for lane in found if not (lane.quarantined or lane.key[1] in self._limited)]

    def notified(self, lane: LaneNotice, due: float) -> None:
        """Takes over what a notification says of a limited lane."""
        self._lanes.notified(lane, due)

    def retry(self) -> None:
        """A limited job has ended here: limits that were reached by running jobs are worth another try."""
        for key in self._reached:
            self._lanes.postpone(key, 0.0)
        self._reached.clear()

    def next_due(self) -> float | None:
        """When a careful claim will be worth while; None if it is not known to be."""
        return min((due for due in (self._lanes.next_due(), self._quarantined.next_due()) if due is not None), default=None)

    @property
    def held_back(self) -> bool:
        """Whether due jobs wait for a limit."""
        return bool(self._full)

    def top(self, now: float, quarantine: bool) -> int | None:
        """The largest priority that a careful claim could bring now; None: nothing."""
        memories = (self._lanes, self._quarantined) if quarantine else (self._lanes,)
        keys = chain.from_iterable(memory.keys(now) for memory in memories)
        return max((key[2] for key in keys if self._limits.room(key[1])), default=None)

    def claim(self, room: Room, fence: int, now: float) -> list[Claim]:
        """Claims what may start now. In a transaction of its own, durable for the tokens' sake."""
        lanes = self._chosen(room, now)
        if not lanes or room.now <= 0:
            return []
        self._connection.execute(_DURABLE)
        try:
            lanes = self._locked(lanes, now)
            rows = (
                self._cursor.execute(self._sql["claim_carefully"], self._params(lanes, room, fence)).fetchall() if lanes else []
            )
        except BaseException:
            if not self._connection.closed:
                self._connection.execute(b"rollback")
            raise
        self._connection.execute(b"commit")
        return self._learned(lanes, rows, fence, now, room)

    def _chosen(self, room: Room, now: float) -> list[Lane]:
        """One lane of each limited entrypoint that has room here, and one in quarantine."""
        chosen: dict[str, Lane] = {}
        for key, bound in self._lanes.ready(now):
            if key[1] in chosen:
                continue
            if places := min(self._limits.room(key[1]), room.now):
                chosen[key[1]] = Lane(key, bound, places, False)
            elif later := self._limits.next_room(key[1]):
                self._full.setdefault(key[1], 1)
                self._lanes.postpone(key, now + later)
        if room.quarantine:
            for key, _ in self._quarantined.ready(now):
                if self._limits.room(key[1]):
                    # Its entrypoint's other jobs wait for the next time: of one entrypoint a claim takes one lane.
                    chosen[key[1]] = Lane(key, EARLIEST, 1, True)
                    break
        return sorted(chosen.values(), key=lambda lane: -lane.key[2])

    def _locked(self, lanes: Sequence[Lane], now: float) -> list[Lane]:
        """Those whose limits could be locked, or that have none in the store."""
        limited = [lane.key[1] for lane in lanes if self.concerns(lane.key[1]) and not self._limits.counted_here(lane.key[1])]
        locked = (
            {row[0] for row in self._cursor.execute(self._sql["lock_limits"], {"entrypoints": limited})} if limited else set()
        )
        for lane in lanes:
            if lane.key[1] in limited and lane.key[1] not in locked:
                self._memory(lane).postpone(lane.key, now + _RIVAL * random.uniform(0.5, 1.5))
        return [lane for lane in lanes if lane.key[1] in locked or lane.key[1] not in limited]

    def _learned(self, lanes: Sequence[Lane], rows: Sequence[Any], fence: int, now: float, room: Room) -> list[Claim]:
        """The claims in the answer; what it says of lanes and limits is kept in mind."""
        claims: list[Claim] = []
        brought: defaultdict[int, list[Claim]] = defaultdict(list)
        for n, _, _, *job in rows:
            if job[0] is not None:
                brought[n].append(Claim(Job(*job[:12]), fence, job[12]))
        for n, (allowed, token_in) in {row[0]: (row[1], row[2]) for row in rows}.items():
            lane, got = lanes[n], brought[n]
            claims += got
            self._limits.take(lane.key[1], len(got))
            self._memory(lane).claimed((claim.job for claim in got), exhausted=False)
            cut_off = sum(map(len, brought.values())) >= room.now
            self._judge(lane, allowed, len(got), token_in, now, cut_off)
        return claims

    def _judge(self, lane: Lane, allowed: int, got: int, token_in: float | None, now: float, cut_off: bool) -> None:
        """When the lane is worth the next claim."""
        memory, entrypoint = self._memory(lane), lane.key[1]
        if got < allowed and not cut_off:
            memory.forget(lane.key)
            self._full.pop(entrypoint, None)
        elif allowed < lane.room or (got and got == allowed and token_in):
            # Its limit is reached: by a token's lack, or by jobs that run.
            self._full[entrypoint] = times = min(self._full.get(entrypoint, 0) + 1, 10)
            if not token_in:
                self._reached.add(lane.key)
                token_in = min(_FIRST_FULL * 2 ** (times - 1), _LONGEST_FULL) * random.uniform(0.8, 1.2)
            memory.postpone(lane.key, now + token_in)
        else:
            self._full.pop(entrypoint, None)

    def _memory(self, lane: Lane) -> LaneMemory:
        return self._quarantined if lane.quarantined else self._lanes

    def _params(self, lanes: Sequence[Lane], room: Room, fence: int) -> dict[str, Any]:
        given = [
            {
                "n": n,
                "queue": lane.key[0],
                "entrypoint": lane.key[1],
                "priority": lane.key[2],
                "quarantined": lane.quarantined,
                "bound": lane.bound,
                "room": min(lane.room, room.now),
            }
            for n, lane in enumerate(lanes)
        ]
        return {
            "lanes": msgspec.json.encode(given).decode(),
            "room": room.now,
            "worker_id": self._worker.worker_id,
            "fence": fence,
            "now": self._clock(),
        }
