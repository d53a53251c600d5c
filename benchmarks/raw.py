"""The reference of the drain scenario: claim and finish by pgq-sync's own statements, on one connection, in one thread.

As in a worker, a claim's commit waits for no disk and a finish's does.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import psycopg

from benchmarks.children import Pipe
from benchmarks.servers import entrypoint_names
from pgq_sync import Settings
from pgq_sync.storage.connections import OwnPool
from pgq_sync.storage.names import Names
from pgq_sync.storage.statements import statements

BATCH = 500
Work = Callable[[Pipe, str, int], None]
"""A process that works off a database's jobs, given the number of their entrypoints."""

_SQL = {name: sql.encode() for name, sql in statements(Names()).items()}
_EARLIEST = "0001-01-02T00:00:00Z"


def work(pipe: Pipe, dsn: str, entrypoints: int) -> None:
    """The process; it reports how many jobs it finished, and in how many seconds."""
    # Opened as the engine does it, for the sake of the session's settings.
    with OwnPool(Settings(), dsn).direct() as connection:
        started = time.perf_counter()
        done = _drain(connection, entrypoint_names(entrypoints))
        pipe.send((done, time.perf_counter() - started))


def _drain(connection: psycopg.Connection[Any], entrypoints: list[str]) -> int:
    cursor = psycopg.Cursor(connection)
    cursor.format = psycopg.pq.Format.BINARY
    common = {"now": None, "worker_id": uuid4()}
    lanes = common | _lanes(entrypoints)
    done = 0
    for fence in itertools.count(1):
        cursor.execute("set synchronous_commit to off")
        ids = [row[0] for row in cursor.execute(_SQL["claim"], lanes | {"fence": fence}).fetchall()]
        if not ids:
            break
        cursor.execute("set synchronous_commit to on")
        done += len(cursor.execute(_SQL["finish"], common | _outcomes(ids, fence)).fetchall())
    return done


def _lanes(entrypoints: list[str]) -> dict[str, Any]:
    lanes = [{"queue": "default", "entrypoint": name, "priority": 0, "bound": _EARLIEST} for name in entrypoints]
    return {"lanes": json.dumps(lanes), "room": BATCH}


def _outcomes(ids: list[int], fence: int) -> dict[str, Any]:
    count = len(ids)
    return {
        "ids": ids,
        "fences": [fence],
        "statuses": ["succeeded"] * count,
        "results": [None] * count,
        "errors": [None] * count,
        "keep": [True] * count,
    }
