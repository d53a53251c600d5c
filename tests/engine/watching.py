"""Watchers of jobs, for the tests of what they tell and of their futures."""

from __future__ import annotations

from datetime import timedelta

from pgq_sync import CompletionWatcher
from tests.waiting import wait_until

NEVER = timedelta(days=1)


def wait_until_kept(watcher: CompletionWatcher, *ids: int) -> None:
    """Waits until the store knows that the jobs are watched, and they were seen unfinished."""
    wait_until(lambda: any(watched.vigil._seen.issuperset(ids) for watched in watcher._watched.values()))
