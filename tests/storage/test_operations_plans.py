"""What operators ask by id reads the rows that it is about: on connections of ours, and on those that plan by default."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from pgq_sync import PgQueuer
from pgq_sync.storage.connections import connect
from pgq_sync.storage.jobs import JobBook
from pgq_sync.storage.names import Names
from pgq_sync.storage.postgres import PostgresStore
from tests.storage.support import query
from tests.storage.test_plans import OneConnection

ROWS = 100_000
FILL = f"""
    insert into pgq_job (entrypoint, status, dedupe_key)
    select 'e' || n % 10, case when n % 20000 = 0 then 'held' when n % 1000 = 0 then 'running' else 'queued' end,
           case when n % 3 = 0 then n::text end
    from generate_series(1, {ROWS}) as n;
    insert into pgq_history (id, finished_at, execute_after, created_at, attempts, priority, status, queue, entrypoint)
    select {ROWS} + n, now(), now(), now(), 1, 0, case when n % 5 = 0 then 'failed' else 'succeeded' end, 'default', 'e' || n % 10
    from generate_series(1, {ROWS}) as n;
"""
SMALL = """
    insert into pgq_job (id, entrypoint) select -n, 'e' from generate_series(1, 1000) as n;
    insert into pgq_history (id, finished_at, execute_after, created_at, attempts, priority, status, queue, entrypoint)
    select -n, now(), now(), now(), 1, 0, 'succeeded', 'default', 'e' from generate_series(1, 1000) as n;
    analyze pgq_job; analyze pgq_history;
"""
# Within a transaction these counters grow with each statement, and nobody else can touch them.
READ = """
    select coalesce(sum(seq_tup_read), 0)::bigint, coalesce(sum(idx_tup_fetch), 0)::bigint
    from pg_stat_xact_user_tables where relname ~ '^pgq_(job|history|cancel)'
"""


@dataclass
class Counted:
    """An operator's connection, in a transaction."""

    jobs: JobBook
    store: PostgresStore
    connection: psycopg.Connection[Any]
    ids: range  # as many as make sense to ask for by index
    before: tuple[int, int] = (0, 0)

    def rows_read(self) -> tuple[int, int]:
        """How many rows were read by reading whole tables, and by index, since the last call."""
        cursor = psycopg.Cursor(self.connection)
        row = cursor.execute(READ.encode(), prepare=False).fetchone()
        assert row is not None
        before, self.before = self.before, (row[0], row[1])
        return row[0] - before[0], row[1] - before[1]


@pytest.fixture(params=["auto", "force_generic_plan"])
def plans(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["analyzed", "analyzed while small", "never analyzed", "ours"])
def counted(request: pytest.FixtureRequest, dsn: str, pgq: PgQueuer, plans: str) -> Iterator[Counted]:
    # Nobody else may find out how large the tables are.
    query(dsn, "alter table pgq_job set (autovacuum_enabled = off)")
    if request.param == "analyzed while small":
        query(dsn, SMALL)
    query(dsn, FILL)
    if request.param == "analyzed":
        query(dsn, "analyze pgq_job; analyze pgq_history")
    ours = request.param == "ours"
    with closing(connect(dsn, "test") if ours else psycopg.connect(dsn)) as connection:
        connection.prepare_threshold = 0
        connection.execute(f"set plan_cache_mode to {plans}".encode())
        connection.execute("set max_parallel_workers_per_gather to 0")  # what they read is counted as theirs
        connection.autocommit or connection.commit()
        connection.execute("begin")
        store = PostgresStore(OneConnection(connection), Names())
        jobs = Counted(pgq.on(connection).jobs, store, connection, range(30_000, 31_000 if ours else 30_100))
        jobs.rows_read()
        yield jobs
        connection.rollback()


def test_a_whole_table_that_is_read_is_counted(counted: Counted) -> None:
    for way in ("indexscan", "indexonlyscan", "bitmapscan"):
        counted.connection.execute(f"set local enable_{way} to off".encode(), prepare=False)
    counted.connection.execute("set local enable_seqscan to on", prepare=False)
    counted.jobs.count()
    assert counted.rows_read()[0] >= ROWS


def test_operations_by_id_read_little_more_than_their_jobs(counted: Counted) -> None:
    few, many = [11, 1000, 20_000, ROWS + 5, ROWS + 6], list(counted.ids)
    failed = [ROWS + 5 * n for n in range(100, 120)]
    for _ in range(2):
        for ids in (few, many):
            counted.jobs.cancel(ids)
            counted.jobs.delete([each + 2000 for each in ids])
            assert _small(counted, len(ids))
        counted.jobs.requeue([40_000, *failed])
        assert _small(counted, len(failed))
        counted.jobs.get(50_000)
        assert _small(counted, 1)


def test_held_jobs_are_found_among_all_others(counted: Counted) -> None:
    for _ in range(8):
        assert len(counted.jobs.held()) == 5
        assert len(counted.jobs.held(entrypoint="e0")) == 5
        assert counted.jobs.held(entrypoint="e1") == []
        assert _small(counted, 15)


def test_requests_are_looked_after_without_reading_the_jobs(counted: Counted) -> None:
    running = list(range(1000, 20_000, 1000))
    assert len(counted.jobs.cancel(running).asked) == 19
    counted.connection.execute("insert into pgq_cancel values (21), (22), (23), (100001)")
    counted.rows_read()

    assert counted.store.end_cancelled() == 3
    for _ in range(8):
        assert counted.store.end_cancelled() == 0
        assert counted.store.cancel_requests([*running, 21, 100_001]) == set(running)
    assert _small(counted, 8 * 2 * 23)


def _small(counted: Counted, jobs: int) -> bool:
    by_table, by_index = counted.rows_read()
    assert by_table <= 50 * max(jobs, 20), "the table was read"
    assert by_index <= 50 * max(jobs, 20), "much of an index was read"
    return True
