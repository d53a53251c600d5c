"""Several worker processes under one supervisor: how they start, and how they start again."""

from __future__ import annotations

import json
import os
import re
import signal
import sys

import pytest

from pgq_sync import NewJob, PgQueuer
from tests.cli.console import Console, Running
from tests.cli.supervised import APPLICATION, PYTHON, WORKER, boss, fleet, supervised

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and named pipes are those of POSIX")


@pytest.fixture
def shop(console: Console) -> Console:
    console.write("shop.py", APPLICATION)
    return console


def test_without_a_name_the_fleet_knows_them_by_host_and_process(shop: Console, pgq: PgQueuer) -> None:
    with shop.start("worker", "shop:make", "--processes", "2") as running:
        for _ in range(2):
            running.stderr.wait_for(" started: ")
        for name, pid in fleet(pgq).items():
            assert name.endswith(f":{pid}")
        running.signal(signal.SIGTERM)
        assert running.ended() == 0


def test_the_children_are_called_like_the_supervisor_but_for_what_is_its_own(shop: Console, dsn: str) -> None:
    database = ("--dsn", dsn, "--prefix", "pgq_", "--schema", "public")
    options = ("-q", "mail", "-qother", "-e", "fetch", "--concurrency=3", "--no-scheduler", "--log-level", "warning")
    supervising = ("--processes", "1", "--restart-on-failure")
    printed = shop.output(
        *("worker", *options, *supervising, *database, "--name", "a b", "--mode=drain", "shop:told", "--", "x", "--mode", "--"),
        PGQ_DSN="host=/nonexistent",
    )
    arguments, application = json.loads(printed.splitlines()[0])
    assert application == ["x", "--mode", "--"]
    assert arguments == [
        *("worker", "--supervised", "--queue=mail", "--queue=other", "--entrypoint=fetch", "--mode=drain", "--no-scheduler"),
        *("--log-level=WARNING", "--concurrency=3", "--name=a b-1", "--", "shop:told", "x", "--mode", "--"),
    ]


def test_a_child_that_was_killed_starts_again_under_its_name(shop: Console, pgq: PgQueuer) -> None:
    with supervised(shop) as running:
        before = fleet(pgq)
        os.kill(before["web-1"], signal.SIGKILL)
        line = running.stderr.wait_for(" was ended by ")
        assert re.search(
            rf" WARNING pgq_sync.supervisor child web-1 \(pid {before['web-1']}\) was ended by SIGKILL; "
            r"it starts again in (0\.[7-9]|1\.[0-3]) s$",
            line,
        )
        running.stderr.wait_for("worker web-1 started")
        running.signal(signal.SIGTERM)
        assert running.ended() == 0
    assert str(running.stderr).count(" WARNING ") == 1
    assert f"closed in {before['web-2']}\n" in running.stdout.all
    assert len(running.stdout.all) == 2


def test_a_child_that_crashed_starts_again_and_while_it_has_not_the_exit_code_tells(shop: Console, pgq: PgQueuer) -> None:
    pgq.enqueue("crashes")
    with supervised(shop, processes=1) as running:
        running.stderr.wait_for(" ended with exit code 5; it starts again in ")
        running.signal(signal.SIGTERM)
        assert running.ended() == 1


def test_a_child_that_somebody_else_stopped_is_replaced_at_once(shop: Console, pgq: PgQueuer) -> None:
    with supervised(shop) as running:
        before = fleet(pgq)
        os.kill(before["web-2"], signal.SIGTERM)
        running.stderr.wait_for(f"child web-2 (pid {before['web-2']}) ended with exit code 0; it starts again at once")
        running.stderr.wait_for("worker web-2 started")
        assert fleet(pgq)["web-1"] == before["web-1"]
        assert fleet(pgq)["web-2"] != before["web-2"]
        running.signal(signal.SIGTERM)
        assert running.ended() == 0
    assert " WARNING " not in str(running.stderr)


def test_a_child_that_has_done_its_number_of_jobs_is_replaced_at_once(shop: Console, pgq: PgQueuer) -> None:
    pgq.enqueue_many(NewJob(entrypoint="fetch") for _ in range(3))
    with shop.start("worker", "shop:make", "--processes", "1", "--max-jobs", "1") as running:
        pids = {running.stdout.wait_for("fetched in") for _ in range(3)}
        assert len(pids) == 3
        running.signal(signal.SIGTERM)
        assert running.ended() == 0, str(running.stderr)
    assert " WARNING " not in str(running.stderr)


def test_a_child_that_asks_to_be_replaced_is_at_once(shop: Console) -> None:
    with shop.start("worker", "shop:once_again", "--processes", "1", "--", "75") as running:
        running.stderr.wait_for(" ended with exit code 75; it starts again at once")
        running.stderr.wait_for(" started: ")
        running.signal(signal.SIGTERM)
        assert running.ended() == 0
    assert " WARNING " not in str(running.stderr)


def test_a_drain_ends_when_every_child_has_drained(shop: Console, pgq: PgQueuer) -> None:
    pgq.enqueue_many(NewJob(entrypoint="fetch") for _ in range(20))
    done = shop.run("worker", "shop:make", "--processes", "2", "--mode", "drain")
    assert done.returncode == 0
    assert done.stderr.count(" started: ") == done.stderr.count(" ended with exit code 0\n") == 2
    assert pgq.jobs.count() == {("fetch", "succeeded"): 20}


def test_a_child_that_failed_to_drain_drains_again(shop: Console, pgq: PgQueuer) -> None:
    pgq.enqueue("fetch")
    done = shop.run("worker", "shop:once_again", "--restart-on-failure", "--mode", "drain", "--", "1")
    assert done.returncode == 0
    assert " ended with exit code 1; it starts again in " in done.stderr
    assert pgq.jobs.count() == {("fetch", "succeeded"): 1}


def test_one_process_may_be_started_again_too(shop: Console, pgq: PgQueuer) -> None:
    with shop.start("worker", "shop:make", "--restart-on-failure", "--name", "web") as running:
        running.stderr.wait_for("worker web started")
        os.kill(fleet(pgq)["web"], signal.SIGKILL)
        running.stderr.wait_for(" was ended by SIGKILL; it starts again in ")
        running.stderr.wait_for("worker web started")
        running.signal(signal.SIGTERM)
        assert running.ended() == 0


@pytest.mark.parametrize("target", ["shop:nothing", "shops:make", "shop"])
def test_children_that_are_called_wrongly_are_not_started_again(shop: Console, target: str) -> None:
    done = shop.run("worker", target, "--processes", "2")
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if line.startswith("pgq-sync: ")]
    assert 1 <= len(errors) <= 2
    assert len(set(errors)) == 1
    assert "starts again" not in done.stderr
    assert "Traceback" not in done.stderr


def test_one_that_is_called_wrongly_stops_the_others(shop: Console, pgq: PgQueuer) -> None:
    commands = [[*WORKER, "shop:make"], [*WORKER, "shop:once_again", "--", "2"]]
    with boss(shop, *commands) as running:
        assert running.ended() == 2
    assert "starts again" not in str(running.stderr)
    assert fleet(pgq) == {}


def test_one_that_is_called_wrongly_only_later_starts_again(shop: Console, pgq: PgQueuer) -> None:
    with supervised(shop, processes=1) as running:
        (shop.directory / "shop.py").rename(shop.directory / "closed.py")
        os.kill(fleet(pgq)["web-1"], signal.SIGTERM)
        running.stderr.wait_for(" ended with exit code 2; it starts again in ")
        (shop.directory / "closed.py").rename(shop.directory / "shop.py")
        running.stderr.wait_for("worker web-1 started")
        running.signal(signal.SIGTERM)
        assert running.ended() == 0


@pytest.mark.parametrize("options", [("--concurrency", "0"), ("--shutdown-timeout", "soon")])
def test_options_that_cannot_be_used_start_no_child(shop: Console, options: tuple[str, ...]) -> None:
    assert options[0] in shop.refused("worker", "shop:make", "--processes", "2", *options, code=2)


def pauses(running: Running, number: int) -> list[float]:
    """The seconds of the next so many delays before a start."""
    lines = [running.stderr.wait_for("it starts again in ") for _ in range(number)]
    return [float(line.split()[-2]) for line in lines]


def test_the_delay_grows_from_failure_to_failure_up_to_a_limit(offline: Console) -> None:
    with boss(offline, [*PYTHON, "raise SystemExit(1)"], first=0.2, longest=0.8) as running:
        first, second, *others = pauses(running, 5)
        running.signal(signal.SIGTERM)
        assert running.ended() == 1
    # Each is spread by a quarter, and written with one digit.
    assert first <= 0.3
    assert 0.3 <= second <= 0.5
    assert all(0.6 <= other <= 1.0 for other in others)


def test_the_delay_does_not_grow_for_a_child_that_has_lived_for_long(offline: Console) -> None:
    with boss(offline, [*PYTHON, "raise SystemExit(1)"], first=0.1, steady=0) as running:
        assert all(pause <= 0.2 for pause in pauses(running, 5))


def test_one_that_cannot_be_started_is_tried_again(offline: Console) -> None:
    with boss(offline, ["/nonexistent/python"], first=0.1) as running:
        line = running.stderr.wait_for("WARNING child 1 could not be started: ")
        assert "No such file" in line
        assert pauses(running, 1)
        running.signal(signal.SIGTERM)
        assert running.ended() == 1


def test_a_signal_without_a_name_is_told_by_its_number(offline: Console) -> None:
    number = signal.SIGRTMIN + 1
    with boss(offline, [*PYTHON, f"import os; os.kill(os.getpid(), {number})"]) as running:
        running.stderr.wait_for(f" was ended by signal {number:d}; ")
