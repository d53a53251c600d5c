"""Claims that need care: jobs of limited entrypoints, and jobs in quarantine. Part of the claimer, in its thread.

Limits hold because a claim locks them first and counts in its next statement. What is believed here of lanes and limits
is a hint, as in lanes.py.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, NamedTuple

import msgspec
import psycopg

from pgq_sync.models import Claim, Job, Room, WorkerInfo
from pgq_sync.storage.claiming import LocalLimits
from pgq_sync.storage.lanes import EARLIEST, Bound, Found, LaneMemory, claim_order
from pgq_sync.storage.names import Names
from pgq_sync.storage.notifications import LaneNotice
from pgq_sync.storage.rotation import Key
from pgq_sync.storage.statements import statements
from pgq_sync.storage.store import Clock

_RIVAL = 0.01  # seconds until limits that another claim has locked are tried again, about
_FIRST_FULL = 0.05  # seconds until a limit that was reached by others is looked at again, doubled each time
_LONGEST_FULL = 1.0
# A snapshot per statement is what the limits' exactness rests on, whatever the database's default is.
_BEGIN = b"begin isolation level read committed; set local synchronous_commit to on"
_COMMIT = b"commit"


class Lane(NamedTuple):
    """A lane as a careful claim names it."""

    key: Key
    bound: Bound
    room: int
    quarantined: bool
    locked: bool = False  # its entrypoint's limit


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
        self._serves = serves
        self._lanes = LaneMemory(serves)
        self._quarantined = LaneMemory(serves)
        self._shared: Mapping[str, float] = {}  # what the store limits, and since when
        # Of each entrypoint whose due jobs wait for its limit: how often in a row that was found reached, until when it is
        # left alone, and whether it was reached by jobs that run.
        self._full: dict[str, int] = {}
        self._off: dict[str, float] = {}
        self._crowded: set[str] = set()
        self._left = False  # whether the last claim left lanes that another one would bring at once
        self.surprised = False  # whether the last claim found less in a lane than was believed to be there

    def concerns(self, entrypoint: str) -> bool:
        """Whether jobs of this entrypoint are limited."""
        return entrypoint in self._shared or entrypoint in self._limits.names

    def looked(self, found: Sequence[Found], shared: Mapping[str, float], now: float) -> list[Found]:
        """Takes over what of a full look is to be claimed with care, and returns the rest.

        Args:
            found: the lanes.
            shared: the entrypoints that the store knows to be limited, and since when they are as they are.
            now: of the monotonic clock.
        """
        self._retry(name for name in self._off if shared.get(name) != self._shared.get(name))
        self._shared = shared
        careful = [lane for lane in found if lane.quarantined or self.concerns(lane.key[1])]
        self._lanes.looked([lane for lane in careful if not lane.quarantined], now)
        self._quarantined.looked([lane for lane in careful if lane.quarantined], now)
        # Those alone are tried again: what is deferred, or for others, would keep a drain waiting as long as it is there.
        waiting = {lane.key[1] for lane in careful if lane.due_in <= 0 and self._serves(*lane.key[:2])}
        self._full = {name: times for name, times in self._full.items() if name in waiting}
        self._off = {name: until for name, until in self._off.items() if name in waiting}
        return [lane for lane in found if not (lane.quarantined or self.concerns(lane.key[1]))]

    def notified(self, lane: LaneNotice, due: float, *, several: bool) -> None:
        """Takes over what a notification says of a limited lane; `several` as in `LaneMemory.notified`."""
        self._lanes.notified(lane, due, several=several)

    def ended(self, entrypoints: Iterable[str]) -> None:
        """Jobs of these have ended here: limits that were reached by running jobs are worth another try."""
        self._retry(self._crowded.intersection(entrypoints))

    def retry(self) -> None:
        """Every limit is worth another try."""
        self._retry(self._off)

    def _retry(self, entrypoints: Iterable[str]) -> None:
        for name in list(entrypoints):
            self._off.pop(name, None)
            self._crowded.discard(name)

    def next_due(self) -> float | None:
        """When a careful claim will be worth while; None if it is not known to be."""
        if self._left:
            return 0.0
        dues = (self._lanes.next_due(), self._quarantined.next_due(), min(self._off.values(), default=None))
        return min((due for due in dues if due is not None), default=None)

    @property
    def held_back(self) -> bool:
        """Whether due jobs wait for a limit."""
        return bool(self._full)

    def top(self, now: float, quarantine: bool) -> int | None:
        """The largest priority that a careful claim could bring now; None: nothing."""
        self._left = self.surprised = False
        self._retry([name for name, until in self._off.items() if until <= now])
        suspects = self._quarantined.keys(now)  # in any case: what became due would end each wait
        keys = list(chain(self._lanes.keys(now), suspects if quarantine else ()))
        for entrypoint in {key[1] for key in keys} - self._off.keys():
            if not self._limits.room(entrypoint) and (later := self._limits.next_room(entrypoint)):
                self._put_off(entrypoint, now + later)
        return max((key[2] for key in keys if key[1] not in self._off and self._limits.room(key[1])), default=None)

    def claim(self, room: Room, fence: int, now: float) -> list[Claim]:
        """Claims what may start now. In a transaction of its own, durable for the tokens' sake."""
        if room.now <= 0:
            return []
        lanes, left = self._chosen(room, now)
        claims: list[Claim] = []
        if lanes:
            with self._transaction():
                lanes = self._locked(lanes, now)
                params = self._params(lanes, room, fence)
                rows = self._cursor.execute(self._sql["claim_carefully"], params).fetchall() if lanes else []
            claims = self._learned(lanes, rows, fence, now, room)
        self._left = len(claims) < room.now and any(name not in self._off for name in left)
        return claims

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._connection.execute(_BEGIN, prepare=False)  # two commands cannot be prepared
            yield
            self._connection.execute(_COMMIT)
        except BaseException:
            if not self._connection.closed:
                self._connection.execute(b"rollback")
            raise

    def _chosen(self, room: Room, now: float) -> tuple[list[Lane], set[str]]:
        """One lane of each limited entrypoint that has room here, and one in quarantine; and of which there are more."""
        chosen: dict[str, Lane] = {}
        left: set[str] = set()
        for key, bound in self._lanes.ready(now):
            if key[1] in chosen:
                left.add(key[1])
            elif key[1] in self._off:
                continue
            elif places := min(self._limits.room(key[1]), room.now):
                chosen[key[1]] = Lane(key, bound, places, False)
        if room.quarantine:
            ready = [key for key, _ in self._quarantined.ready(now) if key[1] not in self._off and self._limits.room(key[1])]
            for key in ready[:1]:
                # Its entrypoint's other jobs wait for the next time: of one entrypoint a claim takes one lane.
                left.update({key[1]} & chosen.keys())
                chosen[key[1]] = Lane(key, EARLIEST, 1, True)
            left.update(key[1] for key in ready[1:])  # for the case that the first has to wait for its limit
        return sorted(chosen.values(), key=lambda lane: -lane.key[2]), left

    def _locked(self, lanes: Sequence[Lane], now: float) -> list[Lane]:
        """Those whose limits could be locked, or that have none in the store."""
        shared = [lane.key[1] for lane in lanes if lane.key[1] in self._shared]
        locked = {row[0] for row in self._cursor.execute(self._sql["lock_limits"], {"entrypoints": shared})} if shared else set()
        for name in shared:
            if name not in locked:
                self._put_off(name, now + _RIVAL * random.uniform(0.5, 1.5))
        return [lane._replace(locked=lane.key[1] in locked) for lane in lanes if lane.key[1] not in self._off]

    def _learned(self, lanes: Sequence[Lane], rows: Sequence[Any], fence: int, now: float, room: Room) -> list[Claim]:
        """The claims in the answer; what it says of lanes and limits is kept in mind."""
        claims: list[Claim] = []
        brought: defaultdict[int, list[Claim]] = defaultdict(list)
        for n, _, _, *job in rows:
            if job[0] is not None:
                brought[n].append(Claim(Job(*(*job[:-1], self._worker.worker_id)), fence, job[-1]))
        cut_off = sum(map(len, brought.values())) >= room.now
        for n, (allowed, token_in) in {row[0]: (row[1], row[2]) for row in rows}.items():
            lane, got = lanes[n], brought[n]
            claims += got
            self._limits.take(lane.key[1], len(got))
            self._memory(lane).advanced(claim.job for claim in got)
            self._memory(lane).turn(lane.key)
            self._judge(lane, allowed, len(got), token_in, now, cut_off)
        # The statement's joins leave them in any order.
        return sorted(claims, key=claim_order)

    def _judge(self, lane: Lane, allowed: int, got: int, token_in: float | None, now: float, cut_off: bool) -> None:
        """When the lane is worth the next claim."""
        entrypoint = lane.key[1]
        if got < allowed and not cut_off:
            self._memory(lane).forget(lane.key)
            self.surprised = True
            self._full.pop(entrypoint, None)
        elif token_in:
            self._put_off(entrypoint, now + token_in)
        elif allowed < lane.room:
            # So many of its jobs run, or are about to.
            self._full[entrypoint] = times = 1 if got else min(self._full.get(entrypoint, 0) + 1, 10)
            self._crowded.add(entrypoint)
            self._put_off(entrypoint, now + min(_FIRST_FULL * 2 ** (times - 1), _LONGEST_FULL) * random.uniform(0.8, 1.2))
        else:
            self._full.pop(entrypoint, None)

    def _put_off(self, entrypoint: str, until: float) -> None:
        self._full.setdefault(entrypoint, 1)
        self._off[entrypoint] = until

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
                "locked": lane.locked,
                "bound": lane.bound.execute_after,
                "bound_id": lane.bound.job_id,
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
