"""A limit or a pause as both stores keep it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import datetime

from pgq_sync.models import DeclaredLimit

ANY = ""  # in place of a name


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitRow:
    """A limit in memory, as its row in PostgreSQL has it."""

    entrypoint: str
    queue: str
    concurrency_limit: int = 0
    requests_per_second: float | None = None
    burst: float | None = None
    tokens: float | None = None  # at refilled_at
    refilled_at: datetime | None = None
    declared_at: datetime | None = None
    paused_at: datetime | None = None

    @property
    def declared(self) -> DeclaredLimit:
        return DeclaredLimit(self.entrypoint, self.concurrency_limit, self.requests_per_second, self.burst)

    def tokens_at(self, now: datetime) -> float | None:
        """How many jobs may start at once by then; None where there is no rate."""
        if self.requests_per_second is None or self.burst is None or self.tokens is None or self.refilled_at is None:
            return self.burst
        seconds = max((now - self.refilled_at).total_seconds(), 0.0)
        return min(self.burst, self.tokens + self.requests_per_second * seconds)


def normal(limit: DeclaredLimit) -> DeclaredLimit:
    """`limit` with the burst that it has by default: one second's worth, and at least one."""
    rate = limit.requests_per_second
    if rate is None:
        return dataclasses.replace(limit, burst=None)
    return dataclasses.replace(limit, burst=max(1.0, rate) if limit.burst is None else limit.burst)
