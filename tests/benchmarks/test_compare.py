"""`python -m benchmarks.compare` at tiny sizes: that everything in it works, whatever the figures are."""

from __future__ import annotations

import math
import platform
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.compare import __main__ as compare
from benchmarks.compare import environments, goals
from benchmarks.compare import run as running
from benchmarks.compare.bench import Bench, Scenario
from benchmarks.compare.contestants import CONTESTANTS, Contestant
from benchmarks.compare.drivers.tally import Tallied, Tally
from benchmarks.compare.environments import Unavailable
from benchmarks.compare.results import OWN, Entry, Outcome, Results
from benchmarks.compare.scenarios import SCENARIOS
from benchmarks.compare.sizes import QUICK
from benchmarks.compare.stand import Broken, Running, Stand

AT_ONCE = Scenario(measure=lambda _: Outcome({"jobs/s": 1.0}), seconds=1)  # for what measuring would only delay


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


def test_the_page_can_be_written_again_without_measuring(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "SCENARIOS", {"batches": AT_ONCE})
    run("--quick", "--peer", OWN, "--only", "batches", "--dsn", server, "--output", str(tmp_path))
    page = tmp_path / "comparison.md"
    before = page.read_text()
    page.unlink()

    run("--report-only", "--output", str(tmp_path))

    assert page.read_text() == before


def test_what_a_later_run_measures_again_takes_the_place_of_what_was(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drain = Scenario(measure=lambda _: Outcome({"jobs/s": 2.0}), seconds=1)
    monkeypatch.setattr(compare, "SCENARIOS", {"drain": AT_ONCE, "batches": AT_ONCE})
    run("--quick", "--peer", OWN, "--dsn", server, "--output", str(tmp_path))

    monkeypatch.setattr(compare, "SCENARIOS", {"drain": drain, "batches": AT_ONCE})
    run("--quick", "--add", "--peer", OWN, "--only", "drain", "--dsn", server, "--output", str(tmp_path))

    results = Results.read(tmp_path / "results.json")
    assert results.entries[OWN].figures == {"drain": {"jobs/s": [2.0]}, "batches": {"jobs/s": [1.0]}}
    assert [ran.measured for ran in results.runs] == [{"drain": [], "batches": [OWN]}, {"drain": [OWN]}]
    assert "- drain of all (rounds 1" in (tmp_path / "comparison.md").read_text()


@pytest.mark.parametrize("partial", ["--quick", "--only=drain", f"--peer={OWN}"])
def test_only_a_whole_run_is_published(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, partial: str) -> None:
    monkeypatch.setattr(compare, "SCENARIOS", {"drain": AT_ONCE})
    monkeypatch.setattr(compare, "CONTESTANTS", CONTESTANTS[:1])
    monkeypatch.setattr(compare, "_OUTPUT", tmp_path / "published")
    monkeypatch.setattr(compare, "_ASIDE", tmp_path / "aside")

    run(partial, "--dsn", server)
    assert [folder.name for folder in tmp_path.iterdir()] == ["aside"]
    run("--dsn", server)
    assert (tmp_path / "published" / "comparison.md").exists()


def test_what_breaks_is_tried_again_in_the_next_round(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes: Iterator[Outcome | Broken] = iter([Broken("no luck"), Outcome({"jobs/s": 1.0}), Outcome({"jobs/s": 3.0})])

    def measure(bench: Bench) -> Outcome:
        outcome = next(outcomes)
        if isinstance(outcome, Broken):
            raise outcome
        return outcome

    monkeypatch.setattr(compare, "SCENARIOS", {"batches": Scenario(measure=measure, seconds=1)})
    run("--peer", OWN, "--dsn", server, "--output", str(tmp_path))

    entry = Results.read(tmp_path / "results.json").entries[OWN]
    assert (entry.dashes, entry.figures["batches"]) == ({}, {"jobs/s": [1.0, 3.0]})
    assert entry.notes["batches"] == ["an earlier round: no luck"]


def test_figures_are_compared_with_those_of_the_same_round() -> None:
    entry = Entry("one", "one", figures={"drain": {"jobs/s": [100.0, 50.0, 40.0]}, "loaded": {"jobs/s": [90.0]}})
    assert entry.ratio("loaded", "jobs/s") == 0.9


def test_a_goal_that_names_the_best_peer_is_not_judged_while_one_of_them_has_no_figure() -> None:
    entries = {
        OWN: Entry("own", "pgq_sync", figures={"drain": {"jobs/s": [80.0]}}),
        "pgqueuer-asyncpg": Entry("one", "pgqueuer", figures={"drain": {"jobs/s": [10.0]}}),
        "pgqueuer-psycopg": Entry("other", "pgqueuer", dashes={"drain": "broken"}),
    }
    results = Results(entries=entries)

    def met() -> bool | None:
        return next(goal.met for goal in goals.judged(results) if goal.figure == "times PgQueuer's defaults")

    assert met() is None
    entries["pgqueuer-psycopg"].figures["drain"] = {"jobs/s": [5.0]}
    assert met() is True


def test_whoever_breaks_or_is_not_there_gets_a_dash_with_the_reason(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Contestant("no_such_driver", "defaults", "own")
    missing = Contestant("celery", "defaults")
    monkeypatch.setattr(compare, "CONTESTANTS", (broken, missing, *CONTESTANTS[:1]))
    monkeypatch.setattr(compare, "SCENARIOS", {"batches": AT_ONCE})

    run("--quick", "--only", "batches", "--dsn", server, "--output", str(tmp_path))

    entries = Results.read(tmp_path / "results.json").entries
    assert "No module named" in entries["no-such-driver-defaults"].dashes["batches"]
    assert entries["celery-defaults"].dashes["batches"] == "no environment peers in tests"
    assert entries[OWN].figures["batches"]["jobs/s"]
    assert "batches: – no environment peers in tests" in (tmp_path / "comparison.md").read_text()  # noqa: RUF001


def test_a_scenario_that_breaks_does_not_end_the_run(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(bench: Bench) -> Outcome:
        raise Broken("the worker has ended:\nTraceback\nValueError: 7 < 8")

    scenarios = {"drain": Scenario(measure=breaks, seconds=1), "batches": AT_ONCE}
    monkeypatch.setattr(compare, "SCENARIOS", scenarios)

    run("--quick", "--peer", OWN, "--dsn", server, "--output", str(tmp_path))

    entry = Results.read(tmp_path / "results.json").entries[OWN]
    assert entry.dashes == {"drain": "the worker has ended: ValueError: 7 < 8"}
    assert entry.figures["batches"]["jobs/s"]
    assert "drain: – the worker has ended: ValueError: 7 &lt; 8" in (tmp_path / "comparison.md").read_text()  # noqa: RUF001


def test_only_the_fastest_configuration_of_a_library_runs_what_takes_long(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = {OWN: 10.0, "pgq-sync-other": 20.0}
    other = Contestant("pgq_sync", "other", "own")
    monkeypatch.setattr(compare, "CONTESTANTS", (CONTESTANTS[0], other))
    described = {"label": "one", "configuration": "", "versions": {}, "about": {}, "refuses": {}}
    monkeypatch.setattr(running, "describe", lambda *_: described)
    drain = Scenario(measure=lambda bench: Outcome({"jobs/s": rates[bench.contestant.name]}), seconds=1)
    long = replace(AT_ONCE, fastest=True)
    monkeypatch.setattr(compare, "SCENARIOS", {"drain": drain, "loaded": long})

    run("--dsn", server, "--output", str(tmp_path))

    entries = Results.read(tmp_path / "results.json").entries
    assert entries[OWN].dashes == {"loaded": "measured with pgq-sync-other, which drained faster"}
    assert entries["pgq-sync-other"].figures["loaded"] == {"jobs/s": [1.0, 1.0, 1.0]}


def test_a_part_that_is_refused_or_breaks_is_a_dash_of_its_own() -> None:
    def breaks() -> float:
        raise Broken("the worker has ended")

    refusing = Bench(
        contestant=CONTESTANTS[0],
        python=Path("python"),
        server="",
        described={"refuses": {"lanes: queues": "it has none"}},
        sizes=QUICK,
    )

    outcome = refusing.parts("lanes", {"queues": lambda: 1.0, "priorities": lambda: 2.0, "entrypoints": breaks})

    assert outcome.figures == {"priorities jobs/s": 2.0}
    assert outcome.notes == ("queues: – it has none", "entrypoints: – the worker has ended")  # noqa: RUF001
    with pytest.raises(Broken, match="it has none"):
        refusing.parts("lanes", {"queues": lambda: 1.0})


def test_of_jobs_that_have_run_only_the_finished_ones_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tally = Tally(tmp_path)
    for _ in range(10):
        tally.ran()
    (tmp_path / "log").touch()
    running = Running([], Tallied(tmp_path), tmp_path / "log")
    stand = Stand(CONTESTANTS[0], Path("python"), "", {"label": "one", "unfinished": None}, tmp_path)

    monkeypatch.setattr(Stand, "unfinished", lambda _: 4)
    assert stand.rate(running, 10, 0.05).jobs == 6
    assert stand.rate(running, 10, 0.05, there=12).jobs == 8  # others lie there as well

    monkeypatch.setattr(Stand, "unfinished", lambda _: 10)
    with pytest.raises(Broken, match="not one of 10 jobs"):
        stand.rate(running, 10, 0.05)


def test_the_page_tells_what_each_library_promises_its_versions_and_its_configuration(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "SCENARIOS", {"drain": AT_ONCE})
    run("--quick", "--peer", OWN, "--only", "drain", "--dsn", server, "--output", str(tmp_path))

    page = (tmp_path / "comparison.md").read_text()
    assert "| **pgq-sync** | runs again | yes |" in page
    assert f"- **{OWN}**: pgq-sync: default settings\n  - Python {platform.python_version()}, pgq-sync " in page
    assert "drain: its worker does not wait for the disk when it commits a claim" in page


def run(*arguments: str) -> None:
    result = CliRunner().invoke(compare.main, arguments)
    assert result.exit_code == 0, result.output
