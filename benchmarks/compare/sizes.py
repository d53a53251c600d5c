"""How much each scenario does: the full sizes, and tiny ones that only show that everything works."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Jobs at a steady rate."""

    rate: int  # jobs per second
    seconds: float
    connections: int  # over which they are enqueued


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """The defaults are the full sizes; seconds are what slow contestants get at most."""

    drain_jobs: int = 100_000
    drain_seconds: float = 10.0
    enqueue_seconds: float = 1.5  # for as many jobs as fit
    enqueue_jobs: int = 5_000
    turns: int = 10  # of the bare insert and the library's
    turn_jobs: int = 200
    batch_seconds: float = 3.0
    batch_jobs: int = 100_000
    paces: tuple[Pace, ...] = (
        Pace(rate=1, seconds=10, connections=1),
        Pace(rate=100, seconds=5, connections=2),
        Pace(rate=1_000, seconds=5, connections=8),
    )
    warm_jobs: int = 20
    waiting_jobs: int = 40_000
    many_waiting: int = 1_000_000
    many_deferred: int = 1_000_000
    many_finished: int = 5_000_000
    load_seconds: float = 120.0
    horizon_jobs: int = 300_000
    horizon_seconds: float = 60.0
    horizon_pace: Pace = Pace(rate=10, seconds=10, connections=1)
    process_jobs: int = 300_000
    idle_seconds: float = 60.0  # what is asked once a minute is seen at its rate
    settle_seconds: float = 4.0  # until a worker whose jobs have just ended has come to rest
    memory_jobs: tuple[int, int] = (100_000, 500_000)
    memory_seconds: float = 60.0
    lanes: int = 10_000
    entrypoints: int = 200
    claims: int = 300


FULL = Sizes()
QUICK = Sizes(
    drain_jobs=2_000,
    drain_seconds=2.0,
    enqueue_seconds=0.05,
    enqueue_jobs=100,
    turns=2,
    turn_jobs=100,
    batch_seconds=0.1,
    batch_jobs=2_000,
    paces=(Pace(rate=100, seconds=0.5, connections=2),),
    waiting_jobs=500,
    many_waiting=5_000,
    many_deferred=2_000,
    many_finished=2_000,
    horizon_jobs=2_000,
    horizon_seconds=2.0,
    horizon_pace=Pace(rate=50, seconds=0.5, connections=1),
    process_jobs=40_000,
    idle_seconds=0.5,
    settle_seconds=0.2,
    memory_jobs=(1_000, 2_000),
    memory_seconds=2.0,
    lanes=100,
    entrypoints=20,
    claims=5,
)
