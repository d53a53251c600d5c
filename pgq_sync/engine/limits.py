"""The limits as one worker counts them: a semaphore and a token bucket per limited entrypoint.

They spare the store questions whose answer is known here. Whether the fleet has room, the store tells with the claim.
"""

from __future__ import annotations

import logging
import math
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from pgq_sync.entrypoints.registry import Registry
from pgq_sync.models import DeclaredLimit, Limit, WorkerInfo
from pgq_sync.storage.store import Limits

logger = logging.getLogger("pgq_sync.engine")


def declare_limits(store: Limits, worker: WorkerInfo, registry: Registry) -> None:
    """Makes the fleet-wide limits of a starting worker's entrypoints known to the store; they replace what it knew."""
    limited = registry.limited()
    fleet = [_declared(name, limited[name]) for name in worker.entrypoints if name in limited and limited[name].scope == "fleet"]
    names = {limit.entrypoint for limit in fleet}
    for change in store.declare(fleet, [name for name in worker.entrypoints if name not in names]):
        logger.warning(
            "the limit of %s was %s and is %s now, as this worker declares it: workers that declare another one obey this",
            *(change.after.entrypoint, _shown(change.before), _shown(change.after)),
        )


def local_limits(worker: WorkerInfo, registry: Registry) -> LocalLimits:
    """The limits of the entrypoints that a worker serves, as it counts them itself."""
    return LocalLimits({name: limit for name, limit in registry.limited().items() if name in worker.entrypoints})


def _declared(name: str, limit: Limit) -> DeclaredLimit:
    if math.isinf(limit.requests_per_second):
        return DeclaredLimit(name, limit.concurrency_limit)
    return DeclaredLimit(name, limit.concurrency_limit, limit.requests_per_second, limit.burst)


def _shown(limit: DeclaredLimit) -> str:
    parts = [f"{limit.concurrency_limit} at once"] if limit.concurrency_limit else []
    if limit.requests_per_second is not None and limit.burst is not None:
        parts.append(f"{limit.requests_per_second:g} per second in bursts of {limit.burst:g}")
    return " and ".join(parts) or "none"


class Bucket:
    """Tokens that flow in at a constant rate, up to a burst.

    Args:
        rate: tokens per second.
        burst: the most that it holds, and what it holds at first.
        clock: monotonic seconds.
    """

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._tokens = burst
        self._refilled = clock()

    def tokens(self) -> float:
        """How many there are now."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + self._rate * (now - self._refilled))
        self._refilled = now
        return self._tokens

    def take(self, tokens: int) -> None:
        """Takes tokens that are there."""
        self._tokens = self.tokens() - tokens

    def next_in(self) -> float:
        """In how many seconds there will be one."""
        return max((1 - self.tokens()) / self._rate, 0.0)


class LocalLimits:
    """What runs here of the limited entrypoints.

    A job counts from its claim until its outcome is written, as it does in the store.

    Args:
        limits: by entrypoint, as they were declared.
    """

    def __init__(self, limits: Mapping[str, Limit]) -> None:
        self._limits = limits
        self._fleet: Mapping[str, int] = {}  # what the latest declarations say, which may not be this worker's
        self._running: Counter[str] = Counter()  # what was claimed with care, also where only the store knows of a limit
        self._lock = threading.Lock()  # of the line above: jobs end in other threads
        self._buckets = {
            name: Bucket(limit.requests_per_second, limit.burst)
            for name, limit in limits.items()
            if limit.scope == "worker" and math.isfinite(limit.requests_per_second)
        }

    @property
    def names(self) -> Collection[str]:
        return self._limits.keys()

    def room(self, entrypoint: str) -> int:
        limit = self._limits.get(entrypoint)
        if limit is None:
            return sys.maxsize
        bucket = self._buckets.get(entrypoint)
        tokens = int(bucket.tokens() + 1e-6) if bucket else sys.maxsize
        most = limit.concurrency_limit if limit.scope == "worker" else self._fleet.get(entrypoint, 0)
        places = most - self._running[entrypoint] if most else sys.maxsize
        return max(0, min(tokens, places))

    def next_room(self, entrypoint: str) -> float:
        bucket = self._buckets.get(entrypoint)
        return bucket.next_in() if bucket else 0.0

    def learn(self, concurrency_limits: Mapping[str, int]) -> None:
        self._fleet = concurrency_limits

    def take(self, entrypoint: str, jobs: int) -> None:
        with self._lock:
            self._running[entrypoint] += jobs
        if bucket := self._buckets.get(entrypoint):
            bucket.take(jobs)

    def ended(self, entrypoints: Iterable[str]) -> Sequence[str]:
        """Counts jobs whose outcome is written, one name each, and returns those that were limited. From any thread."""
        limited = []
        with self._lock:
            for name in entrypoints:
                if self._running[name] > 0:
                    self._running[name] -= 1
                    limited.append(name)
        return limited
