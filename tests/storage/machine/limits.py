"""What the limits and pauses must allow. The rates in the tests are such that floating point numbers are exact."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from pgq_sync.models import DeclaredLimit, LimitChange, LimitRecord, NewJob
from tests.storage.machine.rows import Row

Pause = tuple[str | None, str | None]  # entrypoint, queue
_NONE = (0, None, None)


@dataclass(frozen=True, slots=True)
class Bucket:
    """A limit as it was declared, with the tokens that there were at a time."""

    declared: tuple[int, float | None, float | None]  # jobs at once, per second, burst
    tokens: float = math.inf
    at: datetime | None = None

    def tokens_at(self, now: datetime) -> float:
        _, rate, burst = self.declared
        if rate is None or burst is None or self.at is None:
            return math.inf
        return min(burst, self.tokens + rate * (now - self.at).total_seconds())


class Limits:
    """All limits and pauses."""

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self.buckets: dict[str, Bucket] = {}
        self.pauses: dict[Pause, datetime] = {}

    def declare(self, limits: Sequence[DeclaredLimit], unlimited: Sequence[str], changes: Sequence[LimitChange]) -> bool:
        """Whether anything is new."""
        wanted = dict.fromkeys(unlimited, _NONE) | {limit.entrypoint: _numbers(limit) for limit in limits}
        told = [(change.after.entrypoint, _numbers(change.before), _numbers(change.after)) for change in changes]
        expected, new = [], False
        for name, numbers in sorted(wanted.items()):
            known = self.buckets.get(name)
            if (known.declared if known else _NONE) != numbers:
                expected += [(name, known.declared, numbers)] if known else []
                self.buckets[name] = self._declared(known or Bucket(_NONE), numbers)
                new = True
        assert told == expected, f"declare told {told}, and not {expected}"
        return new

    def _declared(self, known: Bucket, numbers: tuple[int, float | None, float | None]) -> Bucket:
        burst = math.inf if numbers[2] is None else numbers[2]
        return Bucket(numbers, min(burst, known.tokens_at(self._clock.now)), self._clock.now)

    def limited(self, entrypoint: str) -> bool:
        bucket = self.buckets.get(entrypoint)
        return bucket is not None and bucket.declared != _NONE

    def most(self, entrypoint: str) -> int:
        """How many of its jobs may run at once; 0: any number."""
        return self.buckets[entrypoint].declared[0] if self.limited(entrypoint) else 0

    def room(self, entrypoint: str, running: int) -> int:
        """How many more of its jobs may start now."""
        if not self.limited(entrypoint):
            return sys.maxsize
        bucket = self.buckets[entrypoint]
        tokens = bucket.tokens_at(self._clock.now)
        places = bucket.declared[0] - running if bucket.declared[0] else sys.maxsize
        return max(0, min(places, sys.maxsize if math.isinf(tokens) else math.floor(tokens)))

    def take(self, entrypoint: str, jobs: int) -> None:
        if jobs and self.limited(entrypoint):
            bucket, now = self.buckets[entrypoint], self._clock.now
            self.buckets[entrypoint] = replace(bucket, tokens=bucket.tokens_at(now) - jobs, at=now)

    def paused(self, row: Row | NewJob) -> bool:
        covering: list[Pause] = [(row.entrypoint, None), (None, row.queue), (row.entrypoint, row.queue)]
        return any(pause in self.pauses for pause in covering)

    def pause(self, name: Pause, changed: bool) -> None:
        assert changed == (name not in self.pauses), f"pause of {name} told {changed}"
        self.pauses.setdefault(name, self._clock.now)

    def resume(self, name: Pause, changed: bool) -> None:
        assert changed == (name in self.pauses), f"resume of {name} told {changed}"
        self.pauses.pop(name, None)

    def compare(self, records: Sequence[LimitRecord], running: Sequence[Row]) -> None:
        """Whether an operator is shown what there is."""
        names = {(name, None) for name in self.buckets if self.limited(name)} | set(self.pauses)
        assert {(each.entrypoint, each.queue) for each in records} == names, f"{records}, and not {names}"
        assert len(records) == len(names), f"shown twice: {records}"
        for each in records:
            bucket = self.buckets.get(each.entrypoint or "", Bucket(_NONE)) if each.queue is None else Bucket(_NONE)
            tokens = bucket.tokens_at(self._clock.now)
            jobs = sum(each.entrypoint in (None, row.entrypoint) and each.queue in (None, row.queue) for row in running)
            told = (each.concurrency_limit, each.requests_per_second, each.burst, each.tokens, each.running, each.paused_at)
            known = (
                *bucket.declared,
                None if math.isinf(tokens) else tokens,
                jobs,
                self.pauses.get((each.entrypoint, each.queue)),
            )
            assert told == known, f"the limit of {each.entrypoint} and {each.queue} is shown as {told}, and is {known}"


def _numbers(limit: DeclaredLimit) -> tuple[int, float | None, float | None]:
    rate, burst = limit.requests_per_second, limit.burst
    if rate is not None and burst is None:
        burst = max(1.0, rate)  # one second's worth, and at least one
    return limit.concurrency_limit, rate, burst if rate is not None else None
