"""The scenarios, by name and in the order in which they run."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.compare.bench import Scenario
from benchmarks.compare.scenarios import costs, drains, enqueues, flatness, latency

SCENARIOS: Mapping[str, Scenario] = {
    "drain": Scenario(measure=drains.drain, seconds=16),
    "enqueue": Scenario(measure=enqueues.single, seconds=6),
    "batches": Scenario(measure=enqueues.batches, seconds=5),
    "latency": Scenario(measure=latency.measure, seconds=26, rounds=2),
    "waiting": Scenario(measure=drains.waiting, seconds=15, rounds=1),
    "idle": Scenario(measure=costs.idle, seconds=68, rounds=1),
    "processes": Scenario(measure=drains.processes, seconds=25, rounds=1, fastest=True),
    "wal": Scenario(measure=costs.wal, seconds=22, rounds=1, fastest=True),
    "memory": Scenario(measure=costs.memory, seconds=75, rounds=1, fastest=True),
    "lanes": Scenario(measure=flatness.lanes, seconds=60, rounds=1, fastest=True),
    "horizon": Scenario(measure=flatness.horizon, seconds=90, rounds=1, fastest=True),
    "loaded": Scenario(measure=flatness.loaded, seconds=150, rounds=1, fastest=True),
}
