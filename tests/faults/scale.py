"""How large the faults are: quick enough for every change, or as long and as many as they are in earnest (PGQ_FAULTS=full)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta

from pgq_sync import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Durations are in seconds.

    Attributes:
        beat_interval, liveness_limit: the workers' settings.
        rescue: from the death of a worker to the moment when all of its jobs run again.
        silence: how long a worker is stopped, or holds the GIL: longer than the limit of its liveness.
        cuts, cut_every: how often connections are cut, and how long until the next time.
        outage: how long the server is away.
        crashes: how often it crashes.
        held: how long a transaction stays open.
        workers: how many serve the limited entrypoints.
        limited: how long their limits are watched while workers die.
        timeouts: how many deadlines fire as a handler ends.
        rounds: how often a load is repeated at least under a held-back vacuum horizon.
        cancels: how many jobs are cancelled while they are claimed.
        fsync: whether the server's disk is waited for. Nothing here crashes the machine: it changes how long things take.
        finish: how long writing an outcome may take while somebody reads history. In brief more, for a machine that does
            other things besides.
        ticks: how long the schedules are watched while workers die.
        late: by how much a tick may start after its time. In brief more, for a machine that does other things besides.
        patience: until everything has ended that should; only a failing test waits so long.
        limit: of a whole test.
    """

    beat_interval: float
    liveness_limit: float
    rescue: float
    silence: float
    cuts: int
    cut_every: float
    outage: float
    crashes: int
    held: float
    workers: int
    limited: float
    timeouts: int
    rounds: int
    cancels: int
    finish: float
    ticks: float
    late: float
    fsync: bool
    patience: float
    limit: float

    @property
    def environment(self) -> dict[str, str]:
        """The workers' settings."""
        return {"PGQ_BEAT_INTERVAL": f"{self.beat_interval}s", "PGQ_LIVENESS_LIMIT": f"{self.liveness_limit}s"}


def _seconds(duration: timedelta) -> float:
    return duration.total_seconds()


QUICK = Scale(
    beat_interval=0.5,
    liveness_limit=2,
    rescue=6,
    silence=5,
    cuts=12,
    cut_every=0.5,
    outage=4,
    crashes=3,
    held=3,
    workers=8,
    limited=10,
    timeouts=1_500,
    rounds=5,
    cancels=300,
    finish=1.0,
    ticks=12,
    late=2.0,
    fsync=False,
    patience=45,
    limit=120,
)
FULL = Scale(
    beat_interval=_seconds(Settings().beat_interval),
    liveness_limit=_seconds(Settings().liveness_limit),
    rescue=20,
    silence=40,
    cuts=20,
    cut_every=1,
    outage=60,
    crashes=10,
    held=60,
    workers=16,
    limited=120,
    timeouts=10_000,
    rounds=20,
    cancels=5_000,
    finish=0.2,
    ticks=120,
    late=1.0,
    fsync=True,
    patience=120,
    limit=600,
)

# Read at import: the tests' own fixtures then clear the environment of whatever begins with PGQ_.
SCALE = FULL if os.environ.get("PGQ_FAULTS") == "full" else QUICK
