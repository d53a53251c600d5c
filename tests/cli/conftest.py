"""Consoles of the command line's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.console import Console


@pytest.fixture
def console(tmp_path: Path, dsn: str) -> Console:
    """Calls find a database with the schema installed."""
    return Console(tmp_path, PGQ_DSN=dsn)


@pytest.fixture
def empty_console(tmp_path: Path, empty_dsn: str) -> Console:
    """Calls find a database with nothing in it."""
    return Console(tmp_path, PGQ_DSN=empty_dsn)


@pytest.fixture
def offline(tmp_path: Path) -> Console:
    """Calls that try to connect fail."""
    return Console(tmp_path, PGQ_DSN="host=/nonexistent dbname=nowhere")
