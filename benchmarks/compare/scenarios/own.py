"""What only pgq-sync itself is asked: its enqueue beside a bare insert, and what its claims take."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

import psycopg

from benchmarks.claims import Queue, claimer
from benchmarks.compare.drivers.base import PAYLOAD
from benchmarks.servers import application
from pgq_sync.storage.names import Names

_TABLE = Names().fill("create table bare_job (like {job} including all)").encode()
_INSERT = b"insert into bare_job (entrypoint, payload) values (%s, %s) returning id"
_ENTRYPOINT = "entrypoint_0"
HUNDRED = 100  # jobs in one transaction

Insert = Callable[[], Any]


def beside_insert(dsn: str, turns: int, jobs: int) -> Mapping[str, float]:
    """How many times as long as a bare insert of the same row an enqueue takes: both in turns, on one connection."""
    with application(dsn) as pgq, psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(_TABLE)
        producer, payload = pgq.on(connection), PAYLOAD.encode()
        enqueue: Insert = lambda: producer.enqueue(_ENTRYPOINT, payload)  # noqa: E731
        insert: Insert = lambda: connection.execute(_INSERT, [_ENTRYPOINT, payload]).fetchone()  # noqa: E731
        figures: dict[str, float] = {}
        for count in (1, HUNDRED):
            enqueued, inserted = _turns(connection, (enqueue, insert), turns, jobs, count)
            figures |= {f"{count} in each / bare": enqueued / inserted, f"bare {count} in each jobs/s": jobs / inserted}
        return figures


def claim_times(dsn: str, claims: int) -> list[float]:
    """What claims of a hundred jobs take, in milliseconds, on tables where enough are waiting."""
    with claimer(dsn) as claiming:
        queue = Queue(dsn, claiming)
        queue.claim(thorough=True)  # not counted: it looks around for lanes
        return [queue.claim() for _ in range(claims)]


def _turns(
    connection: psycopg.Connection[Any], inserts: tuple[Insert, Insert], turns: int, jobs: int, count: int
) -> tuple[float, float]:
    """The medians of the seconds that so many jobs take, so many in each transaction."""
    taken: tuple[list[float], list[float]] = [], []
    for _ in range(turns):
        for insert, seconds in zip(inserts, taken, strict=True):
            started = time.perf_counter()
            for _ in range(jobs // count):
                with connection.transaction():
                    for _ in range(count):
                        insert()
            seconds.append(time.perf_counter() - started)
    return median(taken[0]), median(taken[1])
