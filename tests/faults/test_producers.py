"""Hundreds of producers at once, half of which roll back: what was committed runs, and nothing else."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg

from tests.faults.stage import Stage

PRODUCERS = 200
JOBS = 5  # of each
_ENDS = ("commit", "rollback", "commit", "vanish")


def test_exactly_the_committed_jobs_run(scene: Stage) -> None:
    scene.fleet.start("work", count=2)
    together = threading.Barrier(PRODUCERS)

    def produce(number: int) -> list[int]:
        with closing(psycopg.connect(scene.server.dsn, application_name="producer")) as connection:
            together.wait()
            on = scene.pgq.on(connection)
            # Half of the keys are wanted by somebody else too.
            ids = [on.enqueue("work", dedupe_key=f"{number}/{n}" if n else None) for n in range(JOBS - 1)]
            ids += on.enqueue_many([])
            last = on.enqueue("work", dedupe_key=f"shared {number // 4}", on_conflict="skip")
            end = _ENDS[number % len(_ENDS)]
            if end == "commit":
                connection.commit()
                return [*ids, *([] if last is None else [last])]
            if end == "rollback":
                connection.rollback()
            return []

    with ThreadPoolExecutor(PRODUCERS) as pool:
        for ids in pool.map(produce, range(PRODUCERS)):
            scene.ids.extend(ids)
    assert len(scene.ids) >= PRODUCERS // 2 * (JOBS - 1)
    census = scene.conclude()
    assert census.counts == {"succeeded": len(scene.ids)}
    assert {run.job_id for run in scene.journal.runs()} == set(scene.ids)
