"""`python -m benchmarks.compare` at tiny sizes: that everything in it works, whatever the figures are."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.compare import __main__ as compare
from benchmarks.compare import environments
from benchmarks.compare.contestants import CONTESTANTS, Contestant
from benchmarks.compare.environments import Unavailable
from benchmarks.compare.results import OWN, Results
from benchmarks.compare.scenarios import SCENARIOS


@pytest.fixture(autouse=True)
def only_this_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others would have to be downloaded first."""
    python = environments.python

    def own(name: str) -> Path:
        if name != "own":
            raise Unavailable(f"no environment {name} in tests")
        return python(name)

    monkeypatch.setattr(environments, "python", own)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_each_scenario_measures_this_library(server: str, tmp_path: Path, scenario: str) -> None:
    run("--quick", "--peer", OWN, "--only", scenario, "--dsn", server, "--output", str(tmp_path))

    entry = Results.read(tmp_path / "results.json").entries[OWN]
    assert entry.dashes == {}
    assert entry.figures[scenario]
    assert all(math.isfinite(value) for values in entry.figures[scenario].values() for value in values)
    assert f"| {scenario} |" in (tmp_path / "comparison.md").read_text()  # among the goals


def test_the_page_can_be_written_again_without_measuring(server: str, tmp_path: Path) -> None:
    run("--quick", "--peer", OWN, "--only", "batches", "--dsn", server, "--output", str(tmp_path))
    page = tmp_path / "comparison.md"
    before = page.read_text()
    page.unlink()

    run("--report-only", "--output", str(tmp_path))

    assert page.read_text() == before


def test_whoever_breaks_or_is_not_there_gets_a_dash_with_the_reason(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Contestant("no_such_driver", "defaults", "own")
    missing = Contestant("celery", "defaults")
    monkeypatch.setattr(compare, "CONTESTANTS", (broken, missing, *CONTESTANTS[:1]))

    run("--quick", "--only", "batches", "--dsn", server, "--output", str(tmp_path))

    entries = Results.read(tmp_path / "results.json").entries
    assert "No module named" in entries["no-such-driver-defaults"].dashes["batches"]
    assert entries["celery-defaults"].dashes["batches"] == "no environment peers in tests"
    assert entries[OWN].figures["batches"]["jobs/s"]
    assert "batches: – no environment peers in tests" in (tmp_path / "comparison.md").read_text()  # noqa: RUF001


def run(*arguments: str) -> None:
    result = CliRunner().invoke(compare.main, arguments)
    assert result.exit_code == 0, result.output
