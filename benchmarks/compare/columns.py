"""Which figures stand in which table, and how they are written."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.compare.results import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One figure of all contestants."""

    heading: str
    scenario: str
    figure: str = "jobs/s"
    form: str = ",.0f"
    of_drain: bool = False  # as the ratio to the plain drain

    def value(self, entry: Entry) -> float | None:
        return entry.ratio(self.scenario, self.figure) if self.of_drain else entry.value(self.scenario, self.figure)

    def shown(self, value: float) -> str:
        return format(value, self.form)


@dataclass(frozen=True, slots=True)
class Table:
    """Args: told is what a reader has to know, in a sentence or two; plots are those beside it."""

    title: str
    told: str
    columns: tuple[Column, ...]
    plots: tuple[str, ...] = ()

    @property
    def scenarios(self) -> set[str]:
        return {column.scenario for column in self.columns}


def _latencies(rate: str) -> tuple[Column, ...]:
    return tuple(
        Column(heading=f"{rate}/s {percentile}", scenario="latency", figure=f"{rate}/s {percentile}", form=".1f")
        for percentile in ("p50", "p95", "p99")
    )


def _ratio(heading: str, scenario: str, figure: str = "jobs/s") -> Column:
    return Column(heading=heading, scenario=scenario, figure=figure, form=".2f", of_drain=True)


OVERVIEW = (
    Column(heading="drain, jobs/s", scenario="drain"),
    Column(heading="enqueue one by one, /s", scenario="enqueue", figure="1 in each jobs/s"),
    Column(heading="in batches, /s", scenario="batches"),
    Column(heading="latency at 100/s p50, ms", scenario="latency", figure="100/s p50", form=".1f"),
    Column(heading="p99, ms", scenario="latency", figure="100/s p99", form=".1f"),
    Column(heading="10 ms on 50 slots", scenario="waiting", figure="share", form=".0%"),
    _ratio("loaded / drain", "loaded"),
    _ratio("horizon held / drain", "horizon"),
    Column(heading="idle statements/s", scenario="idle", figure="statements/s", form=".2f"),
    Column(heading="WAL bytes/job", scenario="wal", figure="bytes/job"),
    Column(heading="memory, MB", scenario="memory", figure="late MB, shared once"),
)
TABLES = (
    Table(
        "drain: jobs without work",
        "100,000 jobs wait; one worker process, until they are done or for 10 s. Claim and finish alone: pgq-sync's statements "
        "on one connection, without a worker.",
        (
            Column(heading="jobs/s", scenario="drain"),
            Column(heading="claim and finish alone", scenario="drain", figure="raw jobs/s"),
        ),
    ),
    Table(
        "enqueue: in transactions, and in batches",
        "Jobs per second on one connection: one job in a transaction, 100 in one, 1,000 with one call; only for pgq-sync beside "
        "bare inserts.",
        (
            Column(heading="1 in each", scenario="enqueue", figure="1 in each jobs/s"),
            Column(heading="100 in each", scenario="enqueue", figure="100 in each jobs/s"),
            Column(heading="batches", scenario="batches"),
            Column(heading="times a bare insert, 1 in each", scenario="enqueue", figure="1 in each / bare", form=".2f"),
            Column(heading="100 in each", scenario="enqueue", figure="100 in each / bare", form=".2f"),
        ),
    ),
    Table(
        "latency: from enqueue to handler, ms",
        "Single jobs at a steady rate, from just before the enqueue call to the handler. "
        "At 1/s there are few jobs: p95 and p99 are their slowest.",
        (*_latencies("1"), *_latencies("100"), *_latencies("1,000")),
        ("latency",),
    ),
    Table(
        "waiting: jobs of 10 ms on 50 slots",
        "As if each waited for an answer from afar; 5,000 jobs/s are possible.",
        (
            Column(heading="jobs/s", scenario="waiting"),
            Column(heading="share", scenario="waiting", figure="share", form=".0%"),
        ),
        ("waiting",),
    ),
    Table(
        "loaded, horizon, lanes: is it flat?",
        "Drains as shares of the plain drain. loaded: with 1 M jobs waiting, 1 M deferred, 5 M finished ones kept. "
        "horizon: while an open transaction keeps vacuum from what 300,000 jobs have left behind. "
        "lanes: over 10,000 queues, 10,000 priorities or as many as there are, 200 entrypoints.",
        (
            Column(heading="loaded, jobs/s", scenario="loaded"),
            _ratio("/ drain", "loaded"),
            Column(heading="horizon, jobs/s", scenario="horizon"),
            _ratio("/ drain", "horizon"),
            _ratio("queues / drain", "lanes", "queues jobs/s"),
            _ratio("priorities / drain", "lanes", "priorities jobs/s"),
            _ratio("entrypoints / drain", "lanes", "entrypoints jobs/s"),
        ),
        ("flatness",),
    ),
    Table(
        "horizon and lanes: pgq-sync's claims",
        "Claims of 100 jobs each, without the looks for lanes that a worker makes seldom, and single jobs at 10/s on the queue "
        "that is empty again while the transaction is still open.",
        (
            Column(heading="horizon: claim p50, ms", scenario="horizon", figure="claim p50 ms", form=".2f"),
            Column(heading="p99", scenario="horizon", figure="claim p99 ms", form=".2f"),
            Column(heading="latency p50, ms", scenario="horizon", figure="then empty, p50", form=".2f"),
            Column(heading="p99", scenario="horizon", figure="then empty, p99", form=".2f"),
            Column(heading="claim, one lane, ms", scenario="lanes", figure="claim ms, one lane", form=".2f"),
            Column(heading="10,000 lanes", scenario="lanes", figure="claim ms, many lanes", form=".2f"),
            Column(heading="all deferred: server, %", scenario="lanes", figure="idle, deferred: server %", form=".2f"),
        ),
    ),
    Table(
        "processes: two workers",
        "300,000 jobs, one worker and then two, from when each of them runs some. Processors, with two: the busy share of all "
        "that the machine has, and how many of them the workers and the server took.",
        (
            Column(heading="one, jobs/s", scenario="processes", figure="one jobs/s"),
            Column(heading="two, jobs/s", scenario="processes"),
            Column(heading="two / one", scenario="processes", figure="two / one", form=".2f"),
            Column(heading="processors busy", scenario="processes", figure="cores busy", form=".0%"),
            Column(heading="workers", scenario="processes", figure="workers", form=".2f"),
            Column(heading="server", scenario="processes", figure="server", form=".2f"),
        ),
    ),
    Table(
        "idle: without any jobs",
        "Statements that reach the server, from all sessions of the database; processor time in percent of one core.",
        (
            Column(heading="statements/s", scenario="idle", figure="statements/s", form=".2f"),
            Column(heading="worker, %", scenario="idle", figure="worker %", form=".2f"),
            Column(heading="server, %", scenario="idle", figure="server %", form=".2f"),
        ),
    ),
    Table(
        "wal: bytes of write-ahead log for each job",
        "With a payload of 100 bytes, filled in by one statement on fresh tables after a checkpoint; the first change of each "
        "page after that writes the whole page.",
        (
            Column(heading="bytes", scenario="wal", figure="bytes/job"),
            Column(heading="of it to fill in", scenario="wal", figure="fill bytes/job"),
            Column(heading="run", scenario="wal", figure="run bytes/job"),
            Column(heading="whole pages", scenario="wal", figure="full pages share", form=".0%"),
        ),
        ("wal",),
    ),
    Table(
        "memory: of the worker's processes, MB",
        "Resident memory after 100,000 jobs and after 500,000, or 60 s; forked processes share part of it.",
        (
            Column(heading="early", scenario="memory", figure="early MB", form=".1f"),
            Column(heading="late", scenario="memory", figure="late MB", form=".1f"),
            Column(heading="late, shared once", scenario="memory", figure="late MB, shared once", form=".1f"),
            Column(heading="jobs by then", scenario="memory", figure="jobs"),
        ),
        ("memory",),
    ),
)
