"""The stages of these tests: each has a server of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.scale import SCALE
from tests.faults.servers import Server, prepared, server
from tests.faults.stage import Stage, stage

if sys.platform == "win32":
    collect_ignore_glob = ["test_*.py"]  # the signals are those of POSIX


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(SCALE.limit))
            item.add_marker(pytest.mark.alone)


@pytest.fixture(scope="session")
def original() -> Iterator[Path]:
    """A data directory to copy."""
    with prepared() as directory:
        yield directory


@pytest.fixture
def own_server(original: Path) -> Iterator[Server]:
    """A server of this test's own."""
    with server(original) as running:
        yield running


@pytest.fixture
def scene(own_server: Server, tmp_path: Path) -> Iterator[Stage]:
    """A stage with an empty queue and no worker yet."""
    with stage(own_server, tmp_path) as made:
        yield made
