"""What a listener believes about the lanes: which are worth a claim, and when the others will be.

Only a hint, fed by full looks and by notifications: a wrong belief costs a statement or some milliseconds, never a job.
Used by the listener thread alone. Times are of the monotonic clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import chain

from pgq_sync.models import Claim, Job, Peers
from pgq_sync.storage.notifications import LaneNotice

Key = tuple[str, str, int]  # queue, entrypoint, priority

EARLIEST = datetime(1, 1, 2, tzinfo=timezone.utc)
STAGGER = 0.005  # seconds between the workers of a fleet, so that one notification is not looked after by all at once
LONGEST_STAGGER = 0.1
_LATE_COMMITS = timedelta(seconds=5)  # how far below the last claimed job a lane is searched between two full looks
_MOST_BOUNDS = 10_000


@dataclass(frozen=True, slots=True)
class Found:
    """A non-empty lane as a full look saw it."""

    key: Key
    earliest: datetime  # execute_after of its first job
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
        self._ready: dict[Key, None] = {}
        self._due: dict[Key, float] = {}
        # Below its bound a lane holds nothing: it spares the claim the dead entries of an index not yet vacuumed.
        self._bounds: dict[Key, datetime] = {}
        self._rotation = 0

    def looked(self, found: Iterable[Found], now: float) -> None:
        """Takes over what a full look has found; it replaces every earlier belief."""
        if len(self._bounds) > _MOST_BOUNDS:
            self._bounds.clear()
        self._ready.clear()
        self._due.clear()
        for lane in found:
            if self._serves(*lane.key[:2]):
                self._bounds[lane.key] = lane.earliest
                if lane.due_in <= 0:
                    self._ready[lane.key] = None
                else:
                    self._due[lane.key] = now + lane.due_in

    def notified(self, lane: LaneNotice, due: float) -> None:
        """Takes over what a notification says of a lane: that there will be something in it at `due`."""
        if self._serves(lane.queue, lane.entrypoint):
            key = (lane.queue, lane.entrypoint, lane.priority)
            self._due[key] = min(self._due.get(key, due), due)
            if key in self._bounds:
                self._bounds[key] = min(self._bounds[key], lane.earliest)

    def ready(self, now: float) -> Sequence[tuple[Key, datetime]]:
        """The lanes worth a claim now, with their bounds: larger priority first, equal ones in a new order each time."""
        self._rotation += 1
        keys = list(self.keys(now))
        start = self._rotation % len(keys) if keys else 0
        ordered = sorted(chain(keys[start:], keys[:start]), key=lambda key: -key[2])
        return [(key, self._bounds.get(key, EARLIEST)) for key in ordered]

    def keys(self, now: float) -> Iterable[Key]:
        """The lanes worth a claim now, in no order."""
        for key in [key for key, due in self._due.items() if due <= now]:
            del self._due[key]
            self._ready[key] = None
        return self._ready

    def forget(self, key: Key) -> None:
        """Takes a lane for empty."""
        self._ready.pop(key, None)

    def claimed(self, jobs: Iterable[Job], *, exhausted: bool) -> None:
        """Takes over what a claim brought; `exhausted` where it brought less than there was room for."""
        latest: dict[Key, datetime] = {}
        for job in jobs:
            key = (job.queue, job.entrypoint, job.priority)
            latest[key] = max(latest.get(key, job.execute_after), job.execute_after)
        for key, moment in latest.items():
            self._bounds[key] = max(moment - _LATE_COMMITS, self._bounds.get(key, EARLIEST))
        if exhausted:
            self._ready.clear()

    def next_due(self) -> float | None:
        """When the next lane will be worth a claim; None if none is known to."""
        return min(self._due.values(), default=None)


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
