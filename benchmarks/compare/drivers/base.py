"""What every driver offers, so that one scenario measures them all. Imports neither pgq-sync nor any peer.

A driver runs in a process and a virtual environment of its own; scenarios speak to it through __main__.py beside this.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from benchmarks.compare.drivers.tally import Tally

PAYLOAD = "x" * 100


@dataclass(frozen=True)
class Load:
    """What lies in the tables before a scenario starts; every payload has 100 bytes."""

    waiting: int = 0
    deferred: int = 0  # to next week
    finished: int = 0  # and kept
    entrypoints: int = 1
    queues: int = 1
    priorities: int = 1


@dataclass(frozen=True)
class Work:
    """What a worker process is to do."""

    slots: int | None = None  # jobs at once; None: what the driver's configuration says
    pause: float = 0.0  # seconds for which each job waits, as one does for an answer from afar
    entrypoints: int = 1
    queues: int = 1


@dataclass(frozen=True)
class About:
    """What a reader has to know of a library to judge its figures, for the page; each in a few words.

    Args:
        packages: whose versions are told.
        crash: what becomes of a job whose worker is killed while it runs.
        joins: whether an enqueue is committed with what else the application writes.
        finished: what is kept of a job that has succeeded.
        stored: where a job is when the enqueue returns, and what a crash of the server costs.
        remarks: on single scenarios, by their names.
    """

    packages: tuple[str, ...]
    crash: str
    joins: str
    finished: str
    stored: str = "on disk"
    remarks: Mapping[str, str] = field(default_factory=dict)


class Producer(Protocol):
    """Enqueues on one connection. Payloads are text; a job's function is number 0 unless said otherwise."""

    def enqueue(self, payload: str) -> None:
        """One job; committed on return, unless within `transaction`."""

    def enqueue_many(self, payloads: Sequence[str]) -> None:
        """A batch, by whatever the library documents for that; committed on return."""

    def transaction(self) -> AbstractContextManager[object]:
        """Jobs that are enqueued within are committed together, on leaving; with anything else that the application does."""


class Driver(Protocol):
    """One library in one configuration."""

    label: str  # in tables and plots
    configuration: str  # in a few words
    about: About

    refuses: Mapping[str, str]
    """Why it cannot run a scenario, or a part of one, by "drain" or "lanes: queues": a dash in the table, the reason below it."""

    unfinished: str | None
    """The SQL that counts the jobs that are not done; None where they are not in PostgreSQL."""

    def install(self, dsn: str) -> None:
        """Makes the tables in an empty database."""

    def fill(self, dsn: str, load: Load) -> None:
        """Puts jobs into the tables, as the library itself would have left them there; by plain SQL, since it may be millions."""

    def produce(self, dsn: str) -> AbstractContextManager[Producer]:
        """Opens a producer."""

    def work(self, dsn: str, work: Work, tally: Tally) -> None:
        """Runs a worker until the process is told to end (SIGTERM). Each job waits, and then calls `tally.ran`."""


def slices(texts: Sequence[str], length: int) -> Iterator[Sequence[str]]:
    """The texts in stretches of at most `length`."""
    return (texts[start : start + length] for start in range(0, len(texts), length))


def handler(work: Work, tally: Tally | None) -> Callable[[str], None]:
    """What a plain function's job does; without a tally it can only be enqueued."""

    def noop(payload: str) -> None:
        if tally is None:
            raise AssertionError("a producer runs no jobs")
        tally.ran(payload)

    def waiting(payload: str) -> None:
        time.sleep(work.pause)
        noop(payload)

    return waiting if work.pause else noop
