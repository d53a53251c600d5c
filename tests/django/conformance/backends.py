"""The backends that the suite examines, and what it has to know about each. Another one is added in the fixture `backend`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Backend:
    """A backend under examination."""

    name: str
    alias: str  # in TASKS, with no restriction of queues
    second: str  # another alias of the same class, with the queues "default" and "mail"
    finish: Callable[[], object] = lambda: None  # runs what is enqueued to its end

    runs: bool = True  # tasks are run at all,
    runs_at_once: bool = False  # and in `enqueue` itself
    defers: bool = False  # takes run_after
    reads_results: bool = False  # in any thread
    pickles: bool = False  # its tasks, and so its results
    is_strict: bool = False  # refuses what has no place in JSON, though Python writes it


def ended(backend: Backend, result: Any) -> Any:
    """The result once the task has ended."""
    backend.finish()
    if not backend.runs_at_once:
        result.refresh()
    return result
