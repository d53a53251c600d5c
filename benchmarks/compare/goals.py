"""What pgq-sync is held to, judged from the results of one run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.compare.results import OWN, Entry, Results
from benchmarks.readings import Goal

Value = Callable[[Entry, Results], float | None]

_PGQUEUER, _CELERY = "pgqueuer", "celery"
_DEFAULTS = ("pgqueuer-asyncpg", "pgqueuer-psycopg")


@dataclass(frozen=True, slots=True)
class Judged:
    """A goal, and what became of it."""

    scenario: str
    figure: str
    goal: Goal
    unit: str
    value: float | None

    @property
    def met(self) -> bool | None:
        return None if self.value is None else self.goal.met(self.value)


def judged(results: Results) -> Iterator[Judged]:
    """All goals; those whose scenario was not run have no value."""
    entry = results.entries.get(OWN) or Entry(label="", library="")
    for scenario, figure, goal, unit, value in _GOALS:
        yield Judged(scenario, figure, goal, unit, value(entry, results))


def _own(scenario: str, figure: str) -> Value:
    return lambda entry, _: entry.value(scenario, figure)


def _slower(scenario: str, figure: str = "jobs/s") -> Value:
    """How many times as long a job takes as in the plain drain."""

    def value(entry: Entry, _: Results) -> float | None:
        ratio = entry.ratio(scenario, figure)
        return 1 / ratio if ratio else None

    return value


def _times(peers: Callable[[str, Entry], bool]) -> Value:
    """How many times as fast as the best of these drains; none where one of them is missing, which might be the best."""

    def value(entry: Entry, results: Results) -> float | None:
        rates = [peer.value("drain", "jobs/s") for name, peer in results.entries.items() if peers(name, peer)]
        own, known = entry.value("drain", "jobs/s"), [rate for rate in rates if rate]
        return own / max(known) if own and known and len(known) == len(rates) else None

    return value


def _is_other(name: str, peer: Entry) -> bool:
    return name != OWN and peer.library not in (_PGQUEUER, _CELERY)


def _raw(entry: Entry, _: Results) -> float | None:
    return entry.ratio("drain", "jobs/s", ("drain", "raw jobs/s"))


_GOALS: tuple[tuple[str, str, Goal, str, Value], ...] = (
    ("drain", "times PgQueuer's best", Goal(">=", 3), "", _times(lambda _, peer: peer.library == _PGQUEUER)),
    ("drain", "times PgQueuer's defaults", Goal(">=", 8), "", _times(lambda name, _: name in _DEFAULTS)),
    ("drain", "times the next best peer on PostgreSQL", Goal(">=", 10), "", _times(_is_other)),
    ("drain", "times Celery on Redis", Goal(">=", 10), "", _times(lambda _, peer: peer.library == _CELERY)),
    ("drain", "of claim and finish alone", Goal(">=", 0.6), "", _raw),
    ("enqueue", "in a transaction each, times a bare insert", Goal("<=", 1.3), "", _own("enqueue", "1 in each / bare")),
    ("enqueue", "100 in one, times a bare insert", Goal("<=", 1.3), "", _own("enqueue", "100 in each / bare")),
    ("batches", "rows", Goal(">=", 100_000), "/s", _own("batches", "jobs/s")),
    ("latency", "100/s, p50", Goal("<=", 2.5), "ms", _own("latency", "100/s p50")),
    ("latency", "100/s, p99", Goal("<=", 10), "ms", _own("latency", "100/s p99")),
    ("waiting", "share of 5,000/s", Goal(">=", 0.9), "", _own("waiting", "share")),
    ("loaded", "times as long as drain", Goal("<=", 1.2), "", _slower("loaded")),
    ("horizon", "times as long as drain", Goal("<=", 1.5), "", _slower("horizon")),
    ("horizon", "claim, p99", Goal("<=", 5), "ms", _own("horizon", "claim p99 ms")),
    ("processes", "two, times as fast as one", Goal(">=", 1.4), "", _own("processes", "two / one")),
    ("idle", "statements", Goal("<=", 0.5), "/s", _own("idle", "statements/s")),
    ("idle", "worker's processor", Goal("<", 0.5), "%", _own("idle", "worker %")),
    ("wal", "per job", Goal("<=", 1_600), "bytes", _own("wal", "bytes/job")),
    ("memory", "after all jobs", Goal("<", 80), "MB", _own("memory", "late MB")),
    ("memory", "late / early", Goal("<=", 1.02), "", _own("memory", "growth")),
    ("lanes", "claim, many lanes / one", Goal("<=", 3), "", _own("lanes", "claim many / one")),
    ("lanes", "server's processor, idle worker", Goal("<", 1), "%", _own("lanes", "idle, deferred: server %")),
)
