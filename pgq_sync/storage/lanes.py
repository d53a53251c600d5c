"""What a listener believes about the lanes: which are worth a claim, and when the others will be.

Only a hint, fed by full looks and by notifications: a wrong belief costs a statement or some milliseconds, never a job.
Used by the listener thread alone. Times are of the monotonic clock.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from pgq_sync.models import Claim, Job, Peers
from pgq_sync.storage.notifications import LaneNotice
from pgq_sync.storage.rotation import Key, Rotation

STAGGER = 0.005  # seconds between the workers of a fleet, so that one notification is not looked after by all at once
LONGEST_STAGGER = 0.1
_LEAST_LANES = 16  # that a claim names, if there is room for so many jobs
_MOST_LANES = 500  # a server reads some three microseconds at each
_MOST_BOUNDS = 20_000
_ROUNDED = timedelta(milliseconds=1)  # a notification's times are floating-point numbers


class Bound(NamedTuple):
    """A place in a lane, below which nothing waits: so it is believed, until a full look or a notification says otherwise."""

    execute_after: datetime
    job_id: int = -(2**63)


EARLIEST = Bound(datetime(1, 1, 2, tzinfo=timezone.utc))


def _sendable(bound: Bound) -> Bound:
    """`bound`, or a lower one: until 1972 zones had odd seconds to UTC, which JSON's times are written without."""
    return bound if bound.execute_after.year > 1972 else EARLIEST


@dataclass(frozen=True, slots=True)
class Found:
    """A non-empty lane as a look saw it."""

    key: Key
    first: Bound  # where its first job stands
    due_in: float  # seconds
    quarantined: bool = False  # its jobs have been rescued more than once


@dataclass(frozen=True, slots=True)
class Paused:
    """What is paused: queue and entrypoint, either of them empty for any."""

    pairs: frozenset[tuple[str, str]] = frozenset()

    def holds(self, queue: str, entrypoint: str) -> bool:
        """Whether nothing is to be claimed from there."""
        return bool(self.pairs) and not self.pairs.isdisjoint([(queue, entrypoint), (queue, ""), ("", entrypoint)])


class LaneMemory:
    """The remembered lanes.

    Args:
        serves: tells of (queue, entrypoint) whether this worker serves it.
    """

    def __init__(self, serves: Callable[[str, str], bool]) -> None:
        self._serves = serves
        self._ready = Rotation()
        self._due: dict[Key, float] = {}
        self._dues: list[tuple[float, Key]] = []  # a heap; what _due does not confirm is out of date
        # They spare a claim the dead entries of an index not yet vacuumed. What others had locked, or enqueued without a
        # notification, may lie below: a full look finds it.
        self._bounds: dict[Key, Bound] = {}
        self._worked: dict[Key, None] = {}  # claimed from since they were looked at
        self._timed: set[Key] = set()  # lanes in which only the first job's time is known, and others may be deferred
        self._reach = 0  # how many lanes the last claim needed,
        self._vain = 0  # and how many of them brought nothing: others had emptied them

    def looked(self, found: Iterable[Found], now: float) -> None:
        """Takes over what a full look has found; it replaces every earlier belief."""
        self._due.clear()
        self._dues.clear()
        self._worked.clear()
        kept = list(found)
        due = {lane.key for lane in kept if lane.due_in <= 0}
        self._timed &= due  # behind a job that is due now may be the one that was told of
        self._ready.keep(due)
        for lane in kept:
            self._saw(lane, now)

    def peeked(self, asked: Iterable[Key], found: Iterable[Found], now: float) -> None:
        """Takes over what was found in the lanes that were asked for; in the others of them there is nothing."""
        there = {lane.key: lane for lane in found}
        for key in asked:
            self._ready.remove(key)
            self._due.pop(key, None)
            if key not in there:
                self._timed.discard(key)
        for lane in there.values():
            self._saw(lane, now)

    def _saw(self, lane: Found, now: float) -> None:
        if not self._serves(*lane.key[:2]):
            return
        self._bounds[lane.key] = _sendable(lane.first)
        if lane.due_in <= 0:
            self._ready.add(lane.key)
        else:
            self._expect(lane.key, now + lane.due_in)
            self._timed.add(lane.key)

    def notified(self, lane: LaneNotice, due: float, *, several: bool = False) -> None:
        """Takes over what a notification says of a lane: that there will be something in it at `due`.

        Args:
            lane: the lane.
            due: when its first job is, of the monotonic clock.
            several: whether the notification is about several jobs, of which others may be due later.
        """
        if self._serves(lane.queue, lane.entrypoint):
            key = (lane.queue, lane.entrypoint, lane.priority)
            if due < self._due.get(key, math.inf):
                self._expect(key, due)
            if lane.delay or several:
                self._timed.add(key)
            if key in self._bounds:
                self._bounds[key] = min(self._bounds[key], Bound(lane.earliest - _ROUNDED))

    def _expect(self, key: Key, due: float) -> None:
        self._due[key] = due
        heapq.heappush(self._dues, (due, key))

    def ready(self, now: float, room: int | None = None) -> Sequence[tuple[Key, Bound]]:
        """The lanes worth a claim now, with their bounds: larger priority first, equal ones in turn.

        Args:
            now: of the monotonic clock.
            room: for how many jobs; no more lanes are returned than they will probably come from. None: all.
        """
        self._ripen(now)
        most = None if room is None else min(room + 2 * self._vain, 2 * self._reach + _LEAST_LANES, _MOST_LANES)
        return [(key, self._bounds.get(key, EARLIEST)) for key in islice(self._ready.keys(), most)]

    def keys(self, now: float) -> Iterable[Key]:
        """The lanes worth a claim now."""
        self._ripen(now)
        return self._ready.keys()

    def top(self, now: float) -> int | None:
        """The largest priority of a lane worth a claim now."""
        self._ripen(now)
        return self._ready.top()

    def _ripen(self, now: float) -> None:
        while self._dues and self._dues[0][0] <= now:
            due, key = heapq.heappop(self._dues)
            if self._is_current(key, due):
                self._due.pop(key, None)
                self._ready.add(key)

    def _is_current(self, key: Key, due: float) -> bool:
        """Whether a time of the heap counts: the one that is known, or one that was told before an earlier one, which is over."""
        return self._due.get(key, due) == due

    def forget(self, key: Key) -> None:
        """Takes a lane for empty."""
        self._ready.remove(key)

    def turn(self, key: Key) -> None:
        """Lets a lane's equals go first the next time."""
        self._ready.turn(key)

    def advanced(self, jobs: Iterable[Job]) -> Sequence[Key]:
        """Takes over where a claim has come to in its lanes, and returns those."""
        latest: dict[Key, tuple[datetime, int]] = {}
        for job in jobs:
            key = (job.queue, job.entrypoint, job.priority)
            place = (job.execute_after, job.id)
            if place > latest.get(key, EARLIEST):
                latest[key] = place
        if len(self._bounds) > _MOST_BOUNDS:
            self._bounds.clear()
        for key, last in latest.items():
            self._bounds[key] = max(_sendable(Bound(*last)), self._bounds.get(key, EARLIEST))
        return list(latest)

    def claimed(self, lanes: Sequence[Key], jobs: Iterable[Job], *, exhausted: bool) -> bool:
        """Takes over what a claim brought, and tells whether it emptied lanes in which others may be deferred.

        Args:
            lanes: those that it named, in their order.
            jobs: what came of them.
            exhausted: it brought less than there was room for. Else the last lane that brought something holds more, and
                nobody has looked at those behind it.
        """
        brought = set(self.advanced(jobs))
        reached = len(lanes) if exhausted else max(n for n, key in enumerate(lanes) if key in brought)
        for key in lanes[:reached]:
            self._ready.remove(key)
        self._worked.update(dict.fromkeys(lanes[: reached + 1]))
        if not exhausted:
            self._ready.turn(lanes[reached])
        self._reach = reached + 1
        self._vain = len(lanes[: self._reach]) - len(brought)
        return not self._timed.isdisjoint(lanes[:reached])

    def worked(self) -> Sequence[tuple[Key, Bound]]:
        """Some of the lanes that were claimed from since they were looked at: those to be asked next what they hold."""
        chosen = list(islice(self._worked, _MOST_LANES))
        for key in chosen:
            del self._worked[key]
        return [(key, self._bounds.get(key, EARLIEST)) for key in chosen]

    def deferred(self) -> Sequence[tuple[Key, Bound]]:
        """Those of them in which the next job may be due before they are asked."""
        chosen = islice((key for key in self._worked if key in self._timed), _MOST_LANES)
        return [(key, self._bounds.get(key, EARLIEST)) for key in chosen]

    @property
    def to_ask(self) -> bool:
        """Whether lanes were claimed from since they were looked at."""
        return bool(self._worked)

    def next_due(self) -> float | None:
        """When the next lane will be worth a claim; None if none is known to."""
        while self._dues and not self._is_current(self._dues[0][1], self._dues[0][0]):
            heapq.heappop(self._dues)
        return self._dues[0][0] if self._dues else None


def stagger(number: int, count: int, peers: Peers) -> float:
    """How long this worker leaves the jobs of a notification to its peers, in seconds.

    Each notification has another first worker, then the next and so on; for `count` jobs, `count` of them are first.
    """
    distance = (peers.rank - number) % peers.count
    return min(max(0, distance - count + 1) * STAGGER, LONGEST_STAGGER)


def claim_order(claim: Claim) -> tuple[int, datetime, int]:
    """In which order the jobs of one claim start: larger priority first, then the earliest due."""
    return -claim.job.priority, claim.job.execute_after, claim.job.id


def serving(queues: Sequence[str] | None, entrypoints: Sequence[str]) -> Callable[[str, str], bool]:
    """The predicate of a worker that serves these queues (None: all) and entrypoints."""
    served: Mapping[str, None] = dict.fromkeys(entrypoints)
    if queues is None:
        return lambda queue, entrypoint: entrypoint in served
    wanted = frozenset(queues)
    return lambda queue, entrypoint: entrypoint in served and queue in wanted


def named(lanes: Sequence[tuple[Key, Bound]]) -> str:
    """Lanes as a statement takes them: one text, which a server reads sooner than psycopg would write five arrays."""
    given = [
        {"queue": key[0], "entrypoint": key[1], "priority": key[2], "bound": bound[0], "bound_id": bound[1]}
        for key, bound in lanes
    ]
    return msgspec.json.encode(given).decode()


def found_in(row: Sequence[Any]) -> Found:
    """The lane in a row of a look's answer."""
    queue, entrypoint, priority, execute_after, job_id, due_in, quarantined, *_ = row
    first = Bound(execute_after) if job_id is None else Bound(execute_after, job_id)
    return Found((queue, entrypoint, priority), first, due_in, quarantined)
