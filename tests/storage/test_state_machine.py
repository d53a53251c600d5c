"""Whatever is done to a queue in whatever order, it is what a queue in plain dictionaries is: in both stores."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.database import DirectoryBasedExampleDatabase
from hypothesis.stateful import run_state_machine_as_test

from tests.storage.machine.operator_rules import OperatorRules
from tests.storage.machine.worker_rules import WorkerRules
from tests.storage.machine.worlds import MachineClock, MemoryWorld, PostgresWorld, World

# As many examples as a loaded machine of two cores gets through in a minute, and "thorough": an hour's worth.
PROFILE = os.environ.get("STATE_MACHINE", "quick")
EXAMPLES = {"quick": {"memory": 300, "postgres": 40}, "thorough": {"memory": 5_000, "postgres": 1_000}}
STEPS = {"quick": 50, "thorough": 100}


class QueueMachine(WorkerRules, OperatorRules):
    """All rules. To run an example again, put what was printed for it above this line."""


@pytest.fixture(params=["postgres", "memory"])
def world(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    clock = MachineClock()
    # The claimers' naps pass as the clock moves.
    monkeypatch.setattr("pgq_sync.storage.claimer.time", clock)
    # So does the machine's own time, which tells what a look has cost: not within an example.
    monkeypatch.setattr("pgq_sync.storage.looks.CHEAP", 3600.0)
    world: World = MemoryWorld(clock) if request.param == "memory" else PostgresWorld(request.getfixturevalue("dsn"), clock)
    yield world
    world.close()


# Enough for a failing example to be made small.
@pytest.mark.timeout(900 if PROFILE == "quick" else 0)
def test_both_stores_do_what_the_model_does(
    world: World, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(QueueMachine, "world", world, raising=False)
    store = request.node.callspec.params["world"]
    run_state_machine_as_test(
        QueueMachine,
        settings=settings(
            max_examples=EXAMPLES[PROFILE][store],
            stateful_step_count=STEPS[PROFILE],
            deadline=None,
            derandomize=False,
            print_blob=True,
            report_multiple_bugs=False,
            database=DirectoryBasedExampleDatabase(request.config.cache.mkdir("state machine")),
            suppress_health_check=list(HealthCheck),
        ),
    )
