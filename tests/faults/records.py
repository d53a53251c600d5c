"""What handlers write down of themselves, outside of the database: the truth against which the queue's word is held.

One line per event, appended by a single write, so that the lines of many processes mix but never break.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pgq_sync import Job

VARIABLE = "FAULTS_JOURNAL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of a handler. Times are nanoseconds of the clock that all processes share."""

    token: str  # of this run alone
    job_id: int
    entrypoint: str
    attempt: int
    claimed_at: float  # seconds, by the database's clock
    pid: int
    started: int
    ended: int | None = None  # None: it was still running at its last word
    how: str | None = None  # "done" or the exception's name


class Journal:
    """The file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    @classmethod
    def of_environment(cls) -> Journal:
        """The one that the worker was given."""
        return cls(Path(os.environ[VARIABLE]))

    @contextmanager
    def run(self, job: Job) -> Iterator[str]:
        """Notes begin and end of a handler; gives the run's token."""
        token = f"{os.getpid()}-{threading.get_ident()}-{time.time_ns()}"
        self._append("start", token, job.id, job.entrypoint, job.attempt, job.claimed_at.timestamp(), os.getpid())
        how = "done"
        try:
            yield token
        except BaseException as error:
            how = type(error).__name__
            raise
        finally:
            self._append(how, token)

    def note(self, what: str, job: Job) -> None:
        """Notes something else that a handler has seen."""
        self._append("note", what, job.id)

    def runs(self) -> list[Run]:
        """Every run so far, in the order of their beginnings."""
        found: dict[str, Run] = {}
        for at, what, token, *rest in self._lines():
            if what == "start":
                job_id, entrypoint, attempt, claimed_at, pid = rest
                found[token] = Run(
                    token=token,
                    job_id=int(job_id),
                    entrypoint=entrypoint,
                    attempt=int(attempt),
                    claimed_at=float(claimed_at),
                    pid=int(pid),
                    started=int(at),
                )
            elif token in found:
                found[token] = replace(found[token], ended=int(at), how=what)
        return sorted(found.values(), key=lambda run: run.started)

    def noted(self, what: str) -> set[int]:
        """The jobs of which this was noted."""
        return {int(rest[0]) for _, kind, noted, *rest in self._lines() if (kind, noted) == ("note", what)}

    def _append(self, *fields: object) -> None:
        line = "\t".join(str(field) for field in (time.time_ns(), *fields)) + "\n"
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(file, line.encode())
        finally:
            os.close(file)

    def _lines(self) -> list[list[str]]:
        return [line.split("\t") for line in self.path.read_text().splitlines()]
