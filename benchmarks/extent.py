"""How much each scenario does in a round: the full extent, and a quick one that only shows that everything works."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """The sizes; the defaults are the full extent."""

    latency_jobs: int = 300
    drain_jobs: int = 100_000
    claim_few: int = 1_000  # queued jobs of the small table
    claim_many: int = 1_000_000  # queued, and then as many deferred jobs of the large one
    entrypoint_jobs: int = 50_000
    pruned_rows: int = 2_000_000
    limit_jobs: int = 2_000
    fleet_seconds: int = 10
    idle_seconds: int = 60  # what is asked once a minute is seen at its rate
    busy_jobs: int = 300


FULL = Extent()
QUICK = Extent(
    latency_jobs=50,
    drain_jobs=20_000,
    claim_many=50_000,
    entrypoint_jobs=20_000,
    pruned_rows=20_000,
    limit_jobs=300,
    fleet_seconds=2,
    idle_seconds=10,
    busy_jobs=60,
)
