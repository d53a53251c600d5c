"""`--reload`: notices that a .py file below a folder was changed, added or removed. A thread looks at them once a second."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pgq_sync.engine.threads import BackgroundThread

_INTERVAL = 1.0  # seconds between two looks
_SKIPPED = {"node_modules", "__pycache__", "site-packages"}

Snapshot = dict[str, tuple[int, int]]  # by path: when it was changed, in nanoseconds, and its size


@contextmanager
def watching(folder: str, on_change: Callable[[str], None]) -> Iterator[None]:
    """Calls `on_change`, in a thread, with the path of a file that has changed, once per look; from now on and meanwhile."""
    before = snapshot(folder)

    def look(stopping: threading.Event) -> None:
        nonlocal before
        while not stopping.wait(_INTERVAL):
            now = snapshot(folder)
            if changed := sorted(path for path in before.keys() | now.keys() if before.get(path) != now.get(path)):
                on_change(os.path.relpath(changed[0], folder))
            before = now

    thread = BackgroundThread("pgq-reload", look, lambda name, error: None)  # its crash is logged, and stops nothing
    thread.start()
    try:
        yield
    finally:
        thread.stop()
        thread.join(_INTERVAL)


def snapshot(folder: str) -> Snapshot:
    """The .py files below `folder`, but for hidden ones and what belongs to others: virtual environments, node_modules ..."""
    files: Snapshot = {}
    folders = [folder]
    while folders:
        here = folders.pop()
        entries = _entries(here)
        if here != folder and any(entry.name == "pyvenv.cfg" for entry in entries):
            continue
        for entry in entries:
            if entry.name.startswith(".") or entry.name in _SKIPPED:
                continue
            if entry.is_dir(follow_symlinks=False):  # links may lead in circles
                folders.append(entry.path)
            elif entry.name.endswith(".py"):
                files.update(_state(entry))
    return files


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:  # it has just gone, or is not ours to read
        return []


def _state(entry: os.DirEntry[str]) -> Snapshot:
    try:
        found = os.stat(entry.path)
    except OSError:  # it has just gone, or is a link to nowhere
        return {}
    return {entry.path: (found.st_mtime_ns, found.st_size)}
