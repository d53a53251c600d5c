"""What a contestant costs beside its jobs: an idle worker, write-ahead log, memory."""

from __future__ import annotations

import time
from typing import Any

import psycopg

from benchmarks.compare.bench import Bench
from benchmarks.compare.gauges import Meter, resident, server_process
from benchmarks.compare.results import Outcome
from benchmarks.compare.stand import Running, Stand
from benchmarks.servers import checkpoint

_CALLS = "select coalesce(sum(calls), 0) from pg_stat_statements where dbid = %s"
_PERCENT = 100


def idle(bench: Bench) -> Outcome:
    """A worker whose only job has ended: statements per second, and the processors' percent."""
    with bench.stand() as stand:
        counting = not bench.contestant.redis and _count_statements(bench.server, stand)
        database = stand.sql("select oid from pg_database where datname = current_database()")[0][0] if counting else None
        stand.fill(waiting=1)
        with stand.worker() as worker:
            worker.begun()
            time.sleep(bench.sizes.settle_seconds)
            before = _calls(bench.server, database) if counting else 0
            figures = at_rest(bench, worker)
            if counting:
                figures |= {"statements/s": (_calls(bench.server, database) - before) / bench.sizes.idle_seconds}
    if bench.contestant.redis:
        return Outcome(figures, ("what reaches Redis, and its processor's time, is not measured",))
    return Outcome(figures, () if counting else ("statements are not counted: pg_stat_statements is not there",))


def at_rest(bench: Bench, worker: Running) -> dict[str, float]:
    """What a worker that has nothing to do takes of a processor, and the server with it, in percent."""
    server = None if bench.contestant.redis else server_process(bench.server)
    meter = Meter(worker.pids, server)
    time.sleep(bench.sizes.idle_seconds)
    use = meter.use()
    return {"worker %": use.worker * _PERCENT} | ({} if server is None else {"server %": use.server * _PERCENT})


def wal(bench: Bench) -> Outcome:
    """Bytes of write-ahead log for each job, filled in and run, on fresh tables after a checkpoint."""
    bench.on_postgres()
    jobs = bench.sizes.drain_jobs
    with bench.stand() as stand:
        checkpoint(stand.dsn)
        start = _position(stand)
        stand.load(waiting=jobs)
        filled = _position(stand)
        with stand.worker() as worker:
            done = stand.rate(worker, jobs, 2 * bench.sizes.drain_seconds).jobs
            end = _position(stand)
        each = {"fill": _between(stand, start, filled) / jobs, "run": _between(stand, filled, end) / done}
        images = _images(stand, start, end)
        total = _between(stand, start, end)
    notes = [] if done == jobs else [f"running is that of {done:,} jobs"]
    if images is None:
        notes.append("whole pages are not told apart: pg_walinspect is not there")
    share = {} if images is None else {"full pages share": images / total}
    return Outcome(
        {"bytes/job": sum(each.values()), **{f"{name} bytes/job": value for name, value in each.items()}, **share}, tuple(notes)
    )


def memory(bench: Bench) -> Outcome:
    """Of the worker's processes, after some jobs and after many."""
    few, many = bench.sizes.memory_jobs
    with bench.stand() as stand:
        stand.fill(waiting=many)
        with stand.worker() as worker:
            worker.begun()
            started = time.monotonic()
            worker.until(lambda: worker.tallied.count() >= few, bench.sizes.memory_seconds)
            early, _ = resident(worker.pids)
            left = bench.sizes.memory_seconds - (time.monotonic() - started)
            worker.until(lambda: worker.tallied.count() >= many, left)
            (late, shared_once), done = resident(worker.pids), worker.tallied.count()
    figures = {"late MB": late, "late MB, shared once": shared_once, "jobs": float(done)}
    if done < few:
        return Outcome(figures, (f"after {done:,} jobs, all that were run in {bench.sizes.memory_seconds:g} s",))
    notes = () if done >= many else (f"late: after {done:,} jobs, all that were run in {bench.sizes.memory_seconds:g} s",)
    return Outcome({"early MB": early, **figures, "growth": late / early}, notes)


def _count_statements(server: str, stand: Stand) -> bool:
    """Has the statements of the stand's database counted, and no other's, which would be slower for it."""
    try:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute("create extension if not exists pg_stat_statements")
            for setting in ("track = 'top'", "track_utility = on"):
                connection.execute(f"alter database {_name(stand)} set pg_stat_statements.{setting}".encode())
            connection.execute("select from pg_stat_statements limit 1")
    except psycopg.Error:
        return False
    return True


def _calls(server: str, database: Any) -> int:
    """Asked from another database, so that the question is not counted."""
    with psycopg.connect(server, autocommit=True) as connection:
        return int(connection.execute(_CALLS, [database]).fetchall()[0][0])


def _name(stand: Stand) -> str:
    return str(stand.sql("select quote_ident(current_database())")[0][0])


def _position(stand: Stand) -> str:
    return str(stand.sql("select pg_current_wal_insert_lsn()")[0][0])


def _between(stand: Stand, start: str, end: str) -> float:
    return float(stand.sql(f"select pg_wal_lsn_diff('{end}', '{start}')")[0][0])


def _images(stand: Stand, start: str, end: str) -> float | None:
    """The bytes of whole pages, which every page's first change after a checkpoint writes."""
    try:
        stand.sql("create extension if not exists pg_walinspect")
        stand.sql("select pg_switch_wal()")  # only what is flushed can be looked into
        return float(stand.sql(f"select coalesce(sum(fpi_size), 0) from pg_get_wal_stats('{start}', '{end}')")[0][0])
    except psycopg.Error:
        return None
