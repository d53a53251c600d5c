"""The reference of the latency scenario: a queue of one table in plain psycopg, with nothing of pgq-sync in it."""

from __future__ import annotations

from typing import Any

import psycopg

from benchmarks.children import Pipe
from benchmarks.stopwatch import elapsed

_TABLE = (
    b"create table bare_job (id bigint generated always as identity primary key, status text default 'queued', payload bytea)"
)
_ENQUEUE = b"""
with inserted as (insert into bare_job (payload) values (%s) returning id)
select pg_notify('bare', '') from inserted
"""
_CLAIM = b"""
update bare_job set status = 'running'
where id = (select id from bare_job where status = 'queued' order by id for update skip locked limit 1)
returning id, payload
"""
_FINISH = b"delete from bare_job where id = %s"


def install(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(_TABLE)


def enqueue(connection: psycopg.Connection[Any], payload: bytes) -> None:
    connection.execute(_ENQUEUE, [payload])


def listen(pipe: Pipe, dsn: str, jobs: int) -> None:
    """The process that claims one job after another, and reports how long each had waited."""
    waits: list[int] = []
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("listen bare")
        pipe.send("ready")
        while len(waits) < jobs:
            row = connection.execute(_CLAIM).fetchone()
            if row is None:
                list(connection.notifies(timeout=1, stop_after=1))
                continue
            waits.append(elapsed(row[1]))
            connection.execute(_FINISH, [row[0]])
    pipe.send(waits)
