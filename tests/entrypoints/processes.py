"""What the tests of processes share."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

from pgq_sync import PgQueuer, ProcessExecutor
from tests.waiting import wait_until

ONE = functools.partial(ProcessExecutor, max_workers=1)
TWO = functools.partial(ProcessExecutor, max_workers=2)


def pids_in(directory: Path, count: int = 1) -> list[int]:
    """The processes in which so many jobs run by now."""
    marks = directory / "pids"
    wait_until(lambda: marks.exists() and len(os.listdir(marks)) >= count)
    return sorted(int(name) for name in os.listdir(marks))


def runs(pid: int) -> bool:
    """Whether there is such a process, and not only what is left of it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def children(pid: int) -> set[int]:
    """The processes that this one has started, but for multiprocessing's own."""
    found = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            command = (entry / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == pid and b"resource_tracker" not in command:
            found.add(int(entry.name))
    return found


def drained(pgq: PgQueuer, **options: Any) -> dict[str, int]:
    """The counts of a drain, without what was given back unstarted while processes were slow to start."""
    return {status: count for status, count in pgq.drain(**options).counts.items() if status != "released"}
