"""An application's transaction that stays open after it has touched running jobs: it delays nobody else's outcome."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import psycopg
import pytest

from pgq_sync.models import OnConflict
from tests.faults.patience import eventually
from tests.faults.scale import SCALE
from tests.faults.stage import Stage

PROMPT = 1.0  # seconds from the end of a handler to the moment when its outcome is written
Touch = Callable[[Any, list[int]], object]


def enqueue_again(on_conflict: OnConflict) -> Touch:
    """Enqueues under the keys of jobs that run."""
    return lambda producer, ids: [
        producer.enqueue("work", dedupe_key=f"key {n}", on_conflict=on_conflict) for n in range(len(ids))
    ]


@pytest.mark.parametrize(
    "touch",
    [
        pytest.param(enqueue_again("replace"), id="replace"),
        pytest.param(enqueue_again("existing"), id="existing"),
        pytest.param(lambda producer, ids: producer.jobs.cancel(ids), id="cancel"),
    ],
)
def test_a_transaction_that_touched_running_jobs_stays_open(scene: Stage, touch: Touch) -> None:
    scene.fleet.start_one("work")
    touched = [scene.enqueue_under(f"key {n}", gate=str(scene.gate)) for n in range(4)]
    scene.wait_until_running(touched)
    with closing(psycopg.connect(scene.server.dsn, application_name="producer")) as connection:
        touch(scene.pgq.on(connection), touched)
        opened = time.monotonic()
        scene.enqueue(20, seconds=0.1)
        scene.open_gate()
        while time.monotonic() - opened < SCALE.held:
            time.sleep(0.2)
            scene.enqueue(20, seconds=0.01)
        others = set(scene.ids) - set(touched)
        unwritten = "select id from pgq_job where id <> all(%s)"
        eventually(lambda: not scene.server.query(unwritten, [touched]), "all others are written before the commit")
        connection.commit()
    census = scene.conclude()
    assert {census.status[job_id] for job_id in others} == {"succeeded"}
    assert {census.status[job_id] for job_id in touched} <= {"succeeded", "cancelled"}
    delays = scene.delays_of_outcomes()
    assert max(delays[job_id] for job_id in others) < PROMPT
