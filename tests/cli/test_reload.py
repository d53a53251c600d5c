"""`pgq-sync worker --reload`: which files are watched, and what happens when one changes."""

from __future__ import annotations

import os
import queue
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pgq_sync import PgQueuer
from pgq_sync.cli.reload import snapshot, watching
from tests.cli.console import Console, Running
from tests.waiting import PATIENCE, wait_until

APPLICATION = """
from pgq_sync import Context, PgQueuer
pgq = PgQueuer.from_dsn()

@pgq.entrypoint("fetch")
def fetch(job):
    print("fetched with %s\\n", end="")

@pgq.entrypoint("waits")
def waits(job, context: Context):
    print("running")
    with open("gate") as gate:
        gate.read()
    print("hurried" if context.cancelled.wait(0.5) else "not hurried")
"""
SYNTAX_ERROR = "def broken(:\n"
posix = pytest.mark.skipif(sys.platform == "win32", reason="processes are asked to stop as POSIX does")


@pytest.fixture
def shop(console: Console) -> Console:
    console.write("shop.py", APPLICATION % "the first version")
    return console


@contextmanager
def reloading(shop: Console, *options: str) -> Iterator[Running]:
    """A worker that has started, and starts again when a file changes."""
    with shop.start("worker", "shop:pgq", "--reload", *options) as running:
        wait_for_start(running)
        yield running


def wait_for_start(running: Running) -> None:
    running.stderr.wait_for(" started: ")


def stop(running: Running) -> None:
    running.signal(signal.SIGTERM)
    assert running.ended() == 0


@posix
def test_a_change_is_run_without_a_word_from_anybody(shop: Console, pgq: PgQueuer) -> None:
    with reloading(shop) as running:
        shop.write("shop.py", APPLICATION % "the second one")
        running.stderr.wait_for(" INFO pgq_sync.supervisor shop.py has changed: the children start again")
        running.stderr.wait_for(" ended with exit code 0; it starts again at once")
        wait_for_start(running)
        pgq.enqueue("fetch")
        assert running.stdout.wait_for("fetched with") == "fetched with the second one\n"
        stop(running)


@posix
def test_several_processes_all_start_again(shop: Console) -> None:
    with reloading(shop, "--processes", "2") as running:
        wait_for_start(running)
        shop.write("prices.py", "")
        running.stderr.wait_for(" prices.py has changed")
        for _ in range(2):
            wait_for_start(running)
        stop(running)
    assert str(running.stderr).count(" starts again at once") == 2


@posix
def test_a_running_job_finishes_first_and_a_signal_does_not_count_as_the_second(shop: Console, pgq: PgQueuer) -> None:
    os.mkfifo(shop.directory / "gate")
    pgq.enqueue("waits")
    with reloading(shop) as running:
        running.stdout.wait_for("running")
        shop.write("shop.py", APPLICATION % "the second one")
        running.stderr.wait_for(" has changed")
        wait_until(lambda: [each.state for each in pgq.store.workers()] == ["stopping"])
        running.signal(signal.SIGTERM)
        running.stderr.wait_for(" asked to stop")
        (shop.directory / "gate").write_text("this")
        assert running.ended() == 0
    assert "not hurried\n" in running.stdout.all
    assert pgq.jobs.count() == {("waits", "succeeded"): 1}


@posix
def test_after_a_syntax_error_the_next_change_is_waited_for(shop: Console) -> None:
    with reloading(shop) as running:
        shop.write("shop.py", SYNTAX_ERROR)
        running.stderr.wait_for("SyntaxError")
        line = running.stderr.wait_for(" ended with exit code 1; ")
        assert line.endswith("; it starts again when a file changes\n")
        shop.write("shop.py", APPLICATION % "the second one")
        wait_for_start(running)
        stop(running)


@posix
def test_a_syntax_error_from_the_start_is_waited_for_too(console: Console) -> None:
    console.write("shop.py", SYNTAX_ERROR)
    with console.start("worker", "shop:pgq", "--reload") as running:
        running.stderr.wait_for(" ended with exit code 1; it starts again when a file changes")
        console.write("shop.py", APPLICATION % "the second one")
        wait_for_start(running)
        stop(running)


@posix
def test_while_a_change_is_waited_for_it_may_be_stopped(console: Console) -> None:
    console.write("shop.py", SYNTAX_ERROR)
    with console.start("worker", "shop:pgq", "--reload") as running:
        running.stderr.wait_for(" it starts again when a file changes")
        running.signal(signal.SIGINT)
        assert running.ended() == 1


def files(folder: Path) -> list[str]:
    return sorted(Path(path).relative_to(folder).as_posix() for path in snapshot(str(folder)))


def test_python_files_are_watched_but_for_hidden_ones_and_those_of_others(tmp_path: Path) -> None:
    for path in (
        *("shop.py", "orders/api.py", "orders/deep/er/prices.py", "orders/notes.txt", "orders/shop.pyc"),
        *(".git/hook.py", "orders/.hidden/api.py", "orders/.hidden.py", "orders/__pycache__/api.py"),
        *("web/node_modules/gyp/gyp.py", "venv/pyvenv.cfg", "venv/bin/tool.py", "venv/lib/deep/tool.py"),
        *("lib/site-packages/tool.py",),
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    assert files(tmp_path) == ["orders/api.py", "orders/deep/er/prices.py", "shop.py"]


def test_a_folder_that_is_itself_a_virtual_environment_is_watched(tmp_path: Path) -> None:
    (tmp_path / "pyvenv.cfg").touch()
    (tmp_path / "shop.py").touch()
    assert files(tmp_path) == ["shop.py"]


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_links_lead_neither_in_circles_nor_to_nowhere(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to(tmp_path)
    (tmp_path / "gone.py").symlink_to(tmp_path / "nowhere.py")
    (tmp_path / "target").touch()
    (tmp_path / "linked.py").symlink_to(tmp_path / "target")
    assert files(tmp_path) == ["linked.py"]


def test_changed_new_and_removed_files_are_told_and_nothing_else(tmp_path: Path) -> None:
    told: queue.SimpleQueue[str] = queue.SimpleQueue()
    (tmp_path / "shop.py").touch()
    with watching(str(tmp_path), told.put):
        (tmp_path / "notes.txt").touch()
        (tmp_path / "shop.py").write_text("changed")
        assert told.get(timeout=PATIENCE) == "shop.py"
        (tmp_path / "new.py").touch()
        assert told.get(timeout=PATIENCE) == "new.py"
        (tmp_path / "shop.py").unlink()
        assert told.get(timeout=PATIENCE) == "shop.py"
    assert told.empty()
