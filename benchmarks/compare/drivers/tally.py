"""How a worker's processes tell, without any database, what they have run: a file each, which the scenarios read."""

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
    """Counts a process's jobs. Of its own in each process that was forked; safe from all threads.

    Args:
        directory: where the files are.
    """

    def __init__(self, directory: str | Path) -> None:
        self._directory = Path(directory)
        self._process = 0
        self._lock = threading.Lock()

    def ran(self, payload: str | bytes | None = None) -> None:
        """A job runs. Of a stamped payload it also notes how long the job has waited."""
        now = time.monotonic_ns()
        with self._lock:
            if self._process != os.getpid():
                self._open(now)
            self._count += 1
            _COUNT.pack_into(self._counted, 0, self._count, self._first, now)
        if payload:
            self._note(payload if isinstance(payload, str) else payload.decode(), now)

    def _note(self, payload: str, now: int) -> None:
        if payload.startswith(_STAMP):
            os.write(self._waits, _WAIT.pack(now, now - int(payload[1:])))

    def _open(self, now: int) -> None:
        self._process = os.getpid()
        self._count, self._first = 0, now
        with (self._directory / f"{self._process}.count").open("w+b") as file:
            file.truncate(_COUNT.size)
            self._counted = mmap.mmap(file.fileno(), _COUNT.size)
        waits = self._directory / f"{self._process}.waits"
        self._waits = os.open(waits, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)


class Tallied:
    """What the processes have told so far, read from outside."""

    def __init__(self, directory: str | Path) -> None:
        self._directory = Path(directory)

    def count(self) -> int:
        """How many jobs have run."""
        return sum(count for count, _, _ in self._counts())

    def processes(self) -> set[int]:
        """Those that have run a job."""
        return {int(file.stem) for file in self._directory.glob("*.count")}

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
