"""How a worker's processes tell, without any database, what they have run: a file per thread, which the scenarios read."""

from __future__ import annotations

import mmap
import os
import struct
import threading
import time
from pathlib import Path

_COUNT = struct.Struct("=qqq")  # how many, when the first began and when the latest did, in nanoseconds
_WAIT = struct.Struct("=qq")  # when, and how long the job had waited
_STAMP = "@"


def stamped(length: int = 100) -> str:
    """A payload that tells the moment at which it was made, by the monotonic clock that all processes share."""
    return f"{_STAMP}{time.monotonic_ns()}".ljust(length)


class Tally:
    """Counts jobs: for each thread of each process apart, since a lock would cost those that use many threads the most.

    Args:
        directory: where the files are.
    """

    def __init__(self, directory: str | Path) -> None:
        self._directory = Path(directory)
        self._own = threading.local()

    def ran(self, payload: str | bytes | None = None) -> None:
        """A job runs. Of a stamped payload it also notes how long the job has waited."""
        now = time.monotonic_ns()
        counter: _Counter | None = getattr(self._own, "counter", None)
        if counter is None or counter.process != os.getpid():  # a thread that was forked has its parent's
            counter = self._own.counter = _Counter(self._directory, now)
        counter.count += 1
        _COUNT.pack_into(counter.counted, 0, counter.count, counter.first, now)
        if payload:
            counter.note(payload if isinstance(payload, str) else payload.decode(), now)


class _Counter:
    """What one thread has run."""

    def __init__(self, directory: Path, now: int) -> None:
        self.process = os.getpid()
        self.count, self.first = 0, now
        name = f"{self.process}.{threading.get_ident()}"
        # A thread may have the number of one that has ended.
        with (directory / f"{name}.{now}.count").open("w+b") as file:
            file.truncate(_COUNT.size)
            self.counted = mmap.mmap(file.fileno(), _COUNT.size)
        self._path = directory / f"{name}.waits"
        self._waits: int | None = None

    def note(self, payload: str, now: int) -> None:
        """Notes how long a job has waited, if its payload tells since when."""
        if payload.startswith(_STAMP):
            if self._waits is None:
                self._waits = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            os.write(self._waits, _WAIT.pack(now, now - int(payload[1:])))


class Tallied:
    """What the processes have told so far, read from outside."""

    def __init__(self, directory: str | Path) -> None:
        self._directory = Path(directory)

    def count(self) -> int:
        """How many jobs have run."""
        return sum(count for count, _, _ in self._counts())

    def processes(self) -> set[int]:
        """Those that have run a job."""
        return {int(file.name.partition(".")[0]) for file in self._directory.glob("*.count")}

    def span(self) -> tuple[float, float]:
        """When the first job began and when the latest did, in seconds of the monotonic clock."""
        counts = self._counts()
        return min(first for _, first, _ in counts) / 1e9, max(last for _, _, last in counts) / 1e9

    def waits(self) -> list[tuple[float, float]]:
        """When each job with a stamped payload began, and how long it had waited; in seconds."""
        files = self._directory.glob("*.waits")
        return sorted((now / 1e9, wait / 1e9) for file in files for now, wait in _WAIT.iter_unpack(file.read_bytes()))

    def _counts(self) -> list[tuple[int, int, int]]:
        found = [file.read_bytes() for file in self._directory.glob("*.count")]
        return [counted for data in found if len(data) == _COUNT.size and (counted := _COUNT.unpack(data))[0]]
