"""What processes cost their machine, read from /proc: processor time and memory, of whole trees of processes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg

_TICKS = os.sysconf("SC_CLK_TCK")  # per second
_PARENT, _TIMES = 1, slice(11, 15)  # of the words after the name: utime, stime, and both of the children that have ended
_AT_REST = (3, 4)  # idle and iowait, of the words about all processors


def tree(roots: Iterable[int]) -> set[int]:
    """The processes, their children, and so on."""
    parents = {pid: int(words[_PARENT]) for pid, words in _all()}
    found = set(roots)
    while grown := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= grown
    return found


def resident(roots: Iterable[int]) -> tuple[float, float]:
    """The memory of the processes' trees, in MB: as each process counts it, and with what they share counted once.

    The latter is all of the largest process's, and of the others what is theirs alone.
    """
    sizes = [(_memory(pid, "Rss"), _memory(pid, "Private_")) for pid in tree(roots)]
    largest = max(sizes, default=(0.0, 0.0))
    return sum(whole for whole, _ in sizes), largest[0] + sum(private for _, private in sizes) - largest[1]


@dataclass(frozen=True, slots=True)
class Moment:
    """What had been used by then, in seconds."""

    at: float
    cores: float  # by everybody
    worker: float
    server: float


@dataclass(frozen=True, slots=True)
class Use:
    """What was used between two moments, in processors."""

    cores: float
    worker: float
    server: float


class Meter:
    """Reads the processor time of a worker and of the server.

    Args:
        worker: its processes.
        server: the server's first process; None where it is out of reach.
    """

    def __init__(self, worker: Iterable[int], server: int | None) -> None:
        self._worker = tuple(worker)
        self._server = () if server is None else (server,)
        self._start = self._now()

    def use(self) -> Use:
        """Since the meter was made."""
        start, end = self._start, self._now()
        seconds = end.at - start.at
        used = (end.cores - start.cores, end.worker - start.worker, end.server - start.server)
        return Use(*(max(value, 0.0) / seconds for value in used))

    def _now(self) -> Moment:
        return Moment(time.monotonic(), _cores(), _processor(self._worker), _processor(self._server))


def server_process(dsn: str) -> int | None:
    """The first process of the server; None where it is not on this machine."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        (backend,) = connection.execute("select pg_backend_pid()").fetchall()[0]
        words = dict(_all()).get(backend)
        named = Path(f"/proc/{backend}/comm")
        return int(words[_PARENT]) if words and named.read_text().startswith("postgres") else None


def _processor(roots: tuple[int, ...]) -> float:
    pids = tree(roots) if roots else set()
    return sum(int(ticks) for pid, words in _all() if pid in pids for ticks in words[_TIMES]) / _TICKS


def _cores() -> float:
    words = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return sum(ticks for place, ticks in enumerate(words) if place not in _AT_REST) / _TICKS


def _all() -> Iterator[tuple[int, list[str]]]:
    """Each process, and the words about it that come after its name."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            yield int(stat.parent.name), stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            pass  # it has ended meanwhile


def _memory(pid: int, what: str) -> float:
    """In megabytes of 10**6 bytes; none of a process that has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith(what)) * 1024 / 1e6
