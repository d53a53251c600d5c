"""The PostgreSQL that is started for a session of tests."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pgq_sync.testing.databases import temporary_server


def test_its_server_stops_at_once_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Path, str, bool]] = []
    remove = shutil.rmtree

    def read_first(directory: Path, **options: Any) -> None:
        data = directory / "data"
        seen.append((directory, (data / "log").read_text(), (data / "postmaster.pid").exists()))
        remove(directory, **options)

    with monkeypatch.context() as patch:
        patch.setattr("pgq_sync.testing.databases.shutil.rmtree", read_first)
        with temporary_server() as dsn, psycopg.connect(dsn) as connection:
            assert connection.execute("show fsync").fetchone() == ("off",)
    ((directory, log, runs),) = seen
    assert "received immediate shutdown request" in log
    assert not runs
    assert not directory.exists()
