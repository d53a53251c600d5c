"""`pgq-sync demo`: a few thousand jobs go their whole way, before one's eyes."""

from __future__ import annotations

import logging
import os
import queue
import statistics
import sys
import time
from datetime import timedelta
from typing import Any

import click

from pgq_sync.app import PgQueuer
from pgq_sync.cli.options import EmbeddedCommand, database_options, embedded_environment, settings_from
from pgq_sync.cli.printing import print_table
from pgq_sync.entrypoints.database_retry import DatabaseRetry
from pgq_sync.models import Job, NewJob

_FINISHED = ("succeeded", "failed", "cancelled")
_PINGS = 200
_THUMBNAIL = 0.002  # seconds that each takes
_REFRESH = 0.1  # seconds


@click.command(cls=EmbeddedCommand)
@click.option("--jobs", "number", type=click.IntRange(100), default=9000, show_default=True, metavar="N")
@database_options
def demo(number: int, embedded: str | None, **options: Any) -> None:
    """Enqueue several thousand jobs, run a worker on them and show what became of them.

    Works in tables of its own (prefix pgq_demo_), which it makes anew.
    """
    logging.getLogger("pgq_sync").setLevel(logging.ERROR)  # the failures are meant, and counted below
    with embedded_environment(embedded):
        settings = settings_from(options).replace(prefix="pgq_demo_", schema=None)
        with PgQueuer.from_dsn(settings=settings) as pgq:
            pgq.schema.uninstall()
            pgq.schema.install()
            _show(pgq, number)
            pgq.schema.uninstall()


def _show(pgq: PgQueuer, number: int) -> None:
    pings: queue.SimpleQueue[float] = queue.SimpleQueue()
    _declare(pgq, pings)
    started = time.perf_counter()
    pgq.enqueue_many(_jobs(number))
    enqueued = time.perf_counter() - started
    click.echo(f"enqueued {number:,} jobs of three entrypoints in {enqueued:.2f} s: {number / enqueued:,.0f} jobs/s")

    with pgq.worker() as worker:
        started = time.perf_counter()
        _follow(pgq, number)
        ran = time.perf_counter() - started
        worker.listening.wait()
        latencies = _ping(pgq, pings)
    _summarise(pgq, number, ran, latencies)


def _declare(pgq: PgQueuer, pings: queue.SimpleQueue[float]) -> None:
    @pgq.entrypoint("thumbnail")
    def thumbnail(job: Job) -> None:
        time.sleep(_THUMBNAIL)

    @pgq.entrypoint("receipt")
    def receipt(job: Job) -> None:
        if job.id % 50 == 0:
            raise ValueError(f"no such address: customer {job.id}")

    @pgq.entrypoint("webhook", retry=DatabaseRetry(max_attempts=5, initial_delay=timedelta(milliseconds=100)))
    def webhook(job: Job) -> None:
        if job.id % 20 == 0 and job.attempt == 1:
            raise ConnectionError("the other side answers 503")

    @pgq.entrypoint("ping", keep_history=False)
    def ping(job: Job) -> None:
        pings.put(time.perf_counter() - float(job.payload or b"0"))


def _jobs(number: int) -> list[NewJob]:
    names = ("thumbnail", "receipt", "webhook")
    return [NewJob(entrypoint=names[index % 3], payload=os.urandom(100)) for index in range(number)]


def _follow(pgq: PgQueuer, number: int) -> None:
    """Shows the progress until every job has come to its end."""
    done = 0
    with click.progressbar(length=number, label="running", show_pos=True, file=sys.stderr) as bar:
        while done < number:
            counts = pgq.jobs.count()
            finished = sum(count for (_, status), count in counts.items() if status in _FINISHED)
            bar.update(finished - done)
            done = finished
            time.sleep(_REFRESH if done < number else 0)  # only how often the display changes


def _ping(pgq: PgQueuer, pings: queue.SimpleQueue[float]) -> list[float]:
    """From the call of enqueue to the start of its handler, on a worker that has nothing else to do."""
    latencies = []
    for _ in range(_PINGS):
        pgq.enqueue("ping", str(time.perf_counter()))
        latencies.append(pings.get(timeout=30))
    return latencies


def _summarise(pgq: PgQueuer, number: int, ran: float, latencies: list[float]) -> None:
    counts = pgq.jobs.count()
    rows = [
        (name, *(f"{counts.get((name, status), 0):,}" for status in _FINISHED)) for name in ("thumbnail", "receipt", "webhook")
    ]
    total = [sum(count for (_, status), count in counts.items() if status == wanted) for wanted in _FINISHED]
    click.echo()
    print_table(("entrypoint", *_FINISHED), [*rows, ("all", *(f"{each:,}" for each in total))])
    retried = len([record for record in pgq.jobs.find(entrypoint="webhook", status="succeeded", limit=number) if record.errors])
    cuts = [1000 * cut for cut in statistics.quantiles(latencies, n=100)]
    click.echo(f"\n{retried} webhooks failed at first and succeeded at a later attempt")
    click.echo(f"{number / ran:,.0f} jobs/s, retries and their delays included")
    click.echo(f"from enqueue to start on the idle worker: p50 {cuts[49]:.1f} ms, p95 {cuts[94]:.1f} ms, p99 {cuts[98]:.1f} ms")
