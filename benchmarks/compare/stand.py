"""Where a contestant is measured: a fresh database on the common server, and processes of the contestant's driver."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.compare.contestants import Contestant
from benchmarks.compare.drivers.base import Load, Work
from benchmarks.compare.drivers.tally import Tallied
from benchmarks.servers import checkpoint, database

_ROOT = Path(__file__).parents[2]
_READY = 60.0  # seconds until a worker has run its first job
_GOODBYE = 10.0  # seconds in which a driver's process should end by itself
_PATIENCE = 300.0  # seconds for anything else: what takes longer hangs
_LOOK = 0.005  # seconds
_STALLED = 2.0  # seconds without a job; what measures that is no longer speed


class Broken(Exception):
    """A driver's process has failed; its own words say why."""


@dataclass(frozen=True, slots=True)
class Rate:
    """How fast jobs were run."""

    jobs: int
    seconds: float
    idle: float = 0.0  # seconds in which no job began, at the end

    @property
    def per_second(self) -> float:
        return self.jobs / self.seconds

    def notes(self, jobs: int) -> tuple[str, ...]:
        """What a reader has to know of it, where `jobs` were to be run."""
        part = f"{self.jobs:,} of {jobs:,} jobs in {self.seconds:.0f} s"
        if self.idle > _STALLED:
            return (f"{part}, of which none began in the last {self.idle:.1f} s",)
        return (part,) if self.jobs < jobs else ()


class Running:
    """A worker, of one or more processes."""

    def __init__(self, processes: list[subprocess.Popen[bytes]], tallied: Tallied, log: Path) -> None:
        self.tallied = tallied
        self.pids = [process.pid for process in processes]
        self._processes = processes
        self._log = log

    def until(self, reached: Callable[[], bool], seconds: float) -> bool:
        """Waits for that long at most; tells whether it was reached. Who looks leaves the machine alone half of the time."""
        deadline = time.monotonic() + seconds
        while (looked := time.monotonic()) and not reached():
            self.check()
            if (now := time.monotonic()) > deadline:
                return False
            time.sleep(max(_LOOK, now - looked))
        return True

    def begun(self, jobs: int = 1) -> None:
        """Waits for the first jobs."""
        if not self.until(lambda: self.tallied.count() >= jobs, _READY):
            raise Broken(f"only {self.tallied.count()} of {jobs} jobs have run within {_READY:g} s:\n{self.said()}")

    def check(self) -> None:
        for process in self._processes:
            if process.poll() is not None:
                raise Broken(f"a worker has ended with {process.returncode}:\n{self.said()}")

    def said(self) -> str:
        """The end of what it has printed."""
        return self._log.read_text(errors="replace")[-3000:]


class Asking:
    """A process that enqueues as it is asked to."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log

    def ask(self, do: str, **options: Any) -> float:
        """Has it enqueue, and returns how many seconds that took."""
        self.start(do, **options)
        return float(self.answer())

    def start(self, do: str, **options: Any) -> None:
        """Has it begin to; `answer` waits for the end."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, "with": options}).encode() + b"\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        assert self._process.stdout is not None
        hanging = threading.Timer(_PATIENCE, self._process.kill)
        hanging.start()
        line = self._process.stdout.readline()
        hanging.cancel()
        if not line:
            raise Broken(f"the producer has ended:\n{self._log.read_text(errors='replace')[-3000:]}")
        return json.loads(line)


class Stand:
    """One contestant with its tables.

    Args:
        dsn: of its database.
        described: what its driver says of itself.
    """

    def __init__(self, contestant: Contestant, python: Path, dsn: str, described: Mapping[str, Any], directory: Path) -> None:
        self.dsn = dsn
        self.label: str = described["label"]
        self._unfinished: str | None = described["unfinished"]
        self._contestant = contestant
        self._python = python
        self._directory = directory
        self._workers = 0

    def load(self, **load: int) -> None:
        """Puts jobs into its tables."""
        self._run("fill", self.dsn, json.dumps(asdict(Load(**load))))

    def fill(self, **load: int) -> None:
        """Puts jobs into its tables, and writes them out, so that no measurement pays for it."""
        self.load(**load)
        if not self._contestant.redis:
            self.sql("vacuum analyze")
            checkpoint(self.dsn)

    def unfinished(self) -> int:
        """How many due jobs are not done; 0 where nobody can tell from outside."""
        return 0 if self._unfinished is None else int(self.sql(self._unfinished)[0][0])

    def sql(self, statement: str) -> list[Any]:
        """Asks its database."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def worker(self, processes: int = 1, **work: Any) -> Iterator[Running]:
        """Its worker, in so many processes; killed at the end."""
        self._workers += 1
        directory = self._directory / f"worker{self._workers}"
        directory.mkdir()
        command = command_of(self._contestant, self._python, "work", self.dsn, json.dumps(asdict(Work(**work))), str(directory))
        log = directory / "log"
        with log.open("wb") as output:
            started = [_open(command, stdout=output, stderr=output) for _ in range(processes)]
            try:
                yield Running(started, Tallied(directory), log)
            finally:
                _end(started)

    @contextmanager
    def producer(self) -> Iterator[Asking]:
        """A process that enqueues."""
        log = self._directory / "producer.log"
        command = command_of(self._contestant, self._python, "produce", self.dsn)
        with log.open("wb") as errors:
            process = _open(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
            try:
                asking = Asking(process, log)
                asking.answer()
                yield asking
            finally:
                _end([process])

    def rate(self, running: Running, jobs: int, seconds: float, *, there: int | None = None) -> Rate:
        """How fast a worker that has just been started finishes so many jobs; or those that it finishes in so many seconds.

        Args:
            running: the worker.
            jobs: how many.
            seconds: at most.
            there: how many were waiting before it was started. Where that are more, it is asked only at the end how many of
                those that have run are finished: to count them takes long. None: no more than `jobs`.
        """
        running.begun()
        first, _ = running.tallied.span()
        waiting = jobs if there is None else there
        running.until(lambda: running.tallied.count() >= jobs and (waiting > jobs or self.unfinished() == 0), seconds)
        ran, now = running.tallied.count(), time.monotonic()
        _, last = running.tallied.span()
        done, passed = min(ran, waiting - self.unfinished()), now - first
        if done <= 0:
            raise Broken(f"not one of {jobs} jobs is finished after {passed:.0f} s, though some have run:\n{running.said()}")
        return Rate(done, passed, max(now - last, 0.0))

    def _run(self, *arguments: str) -> None:
        command = command_of(self._contestant, self._python, *arguments)
        try:
            done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            raise Broken(f"{arguments[0]} of {self.label} takes more than {_PATIENCE:g} s") from None
        if done.returncode:
            raise Broken(f"{arguments[0]} of {self.label}:\n{done.stderr[-3000:]}")


@contextmanager
def stand(
    contestant: Contestant, python: Path, server: str, described: Mapping[str, Any], *, redis: str | None = None
) -> Iterator[Stand]:
    """A fresh one, with the contestant's tables and no job."""
    with tempfile.TemporaryDirectory(prefix="pgq-sync-compare-") as directory, database(server, schema=False) as dsn:
        made = Stand(contestant, python, redis or dsn, described, Path(directory))
        made._run("install", made.dsn)
        yield made


def describe(contestant: Contestant, python: Path) -> Mapping[str, Any]:
    """What its driver says of itself: the label, what it refuses and why."""
    done = subprocess.run(command_of(contestant, python, "describe"), cwd=_ROOT, capture_output=True, text=True)
    if done.returncode:
        raise Broken(f"the driver of {contestant.name} cannot be imported:\n{done.stderr[-3000:]}")
    description: Mapping[str, Any] = json.loads(done.stdout)
    return description


def command_of(contestant: Contestant, python: Path, *arguments: str) -> list[str]:
    module = "benchmarks.compare.drivers"
    return [str(python), "-m", module, contestant.module, contestant.configuration, *arguments]


def _open(command: list[str], **streams: Any) -> subprocess.Popen[bytes]:
    """In a session of its own, so that whatever it has forked can be ended with it."""
    return subprocess.Popen(command, cwd=_ROOT, start_new_session=True, **streams)


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    """Asks them to end, and kills what is left; also where the waiting is broken off."""
    for process in processes:
        process.terminate()
    try:
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(_GOODBYE)
    finally:
        for process in processes:
            _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """It, and whatever it has forked."""
    with suppress(ProcessLookupError):  # nothing is left
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        with suppress(BrokenPipeError):
            if pipe:
                pipe.close()
