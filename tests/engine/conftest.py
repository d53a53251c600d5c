"""Fixtures of the engine's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pgq_sync import CompletionWatcher, PgQueuer


@pytest.fixture
def watcher(either: PgQueuer) -> Iterator[CompletionWatcher]:
    """A watcher of the application's jobs."""
    with CompletionWatcher(either) as one:
        yield one
