"""`pgq-sync demo`, and what the command line says of itself."""

from __future__ import annotations

import re

import pytest

from pgq_sync import PgQueuer, __version__
from tests.cli.console import Console


def test_the_demo_shows_what_became_of_its_jobs_and_leaves_no_trace(console: Console, pgq: PgQueuer) -> None:
    pgq.enqueue("mine")
    printed = console.output("demo", "--jobs", "300")

    assert re.search(r"^enqueued 300 jobs of three entrypoints in [\d.]+ s: [\d,]+ jobs/s$", printed, re.MULTILINE)
    assert re.search(r"^entrypoint +succeeded +failed +cancelled$", printed, re.MULTILINE)
    for name, succeeded, failed in (("thumbnail", 100, 0), ("receipt", 98, 2), ("webhook", 100, 0), ("all", 298, 2)):
        assert re.search(rf"^{name} +{succeeded} +{failed} +0$", printed, re.MULTILINE)
    assert "5 webhooks failed at first and succeeded at a later attempt" in printed
    assert re.search(r"^[\d,]+ jobs/s, retries and their delays included$", printed, re.MULTILINE)
    assert re.search(r"^from enqueue to start on the idle worker: p50 [\d.]+ ms, p95 [\d.]+ ms, p99 [\d.]+ ms$", printed, re.M)
    assert "there are no pgq_demo_* tables" in console.refused("verify", "--prefix", "pgq_demo_", code=1)
    assert pgq.jobs.count() == {("mine", "queued"): 1}


def test_the_demo_needs_no_installation_and_may_be_repeated(empty_console: Console) -> None:
    for _ in range(2):
        assert "enqueued 100 jobs" in empty_console.output("demo", "--jobs", "100")


def test_a_demo_of_too_few_jobs_is_refused(offline: Console) -> None:
    assert offline.run("demo", "--jobs", "99").returncode == 2


def test_the_version_is_told(offline: Console) -> None:
    assert offline.output("--version") == f"pgq-sync, version {__version__}\n"


@pytest.mark.parametrize(
    "command",
    [
        (),
        *[(name,) for name in ("install", "upgrade", "uninstall", "verify", "durability", "autovac", "sql")],
        *[(name,) for name in ("worker", "enqueue", "jobs", "listen", "demo")],
        *[(name,) for name in ("held", "requeue", "cancel", "delete", "purge", "workers", "limits", "pause", "resume")],
        *[("sql", name) for name in ("install", "upgrade", "uninstall", "grants")],
    ],
    ids=lambda command: " ".join(command) or "pgq-sync",
)
def test_every_command_explains_itself_without_a_database(offline: Console, command: tuple[str, ...]) -> None:
    printed = offline.output(*command, "--help", PGQ_CONCURRENCY="nonsense")
    assert printed.startswith(" ".join(("Usage: pgq-sync", *command)))


def test_an_unknown_command_is_refused(offline: Console) -> None:
    done = offline.run("wrok")
    assert done.returncode == 2
    assert "No such command 'wrok'" in done.stderr
