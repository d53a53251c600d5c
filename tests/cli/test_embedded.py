"""`--embedded`: a PostgreSQL of the command line's own, in a directory that processes share."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgq_sync.storage.embedded import DEFAULT_DIRECTORY
from tests.cli.console import Console

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is sent as POSIX does")

REPOSITORY = Path(__file__).parents[2]
QUICKSTART = ("worker", "examples.quickstart:pgq")


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory whose parents everybody may enter: run by root, the server runs as somebody else."""
    directory = Path(tempfile.mkdtemp(prefix="pgq-sync-embedded-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


def test_the_quick_start_runs_a_job_that_another_process_enqueues_and_ends_at_ctrl_c(place: Path) -> None:
    console = Console(REPOSITORY)
    where = ("--embedded", str(place / "postgres"))
    with console.start(*QUICKSTART, *where) as running:
        running.stderr.wait_for(" started: ")
        job_id = int(console.output("enqueue", "fetch", "hello", *where))
        line = running.stdout.wait_for("Processed: ")
        assert f"Job(id={job_id}, " in line
        assert "payload=b'hello'" in line

        running.signal(signal.SIGINT, group=True)  # as a terminal does
        assert running.seconds_to_end() < 5  # about 0.2 by itself
        assert running.ended() == 0
    assert running.stderr.all[-1] == "done: 1 succeeded\n"
    assert "Traceback" not in str(running.stderr)


def test_jobs_outlive_the_server_that_held_them(place: Path) -> None:
    console = Console(REPOSITORY)
    where = ("--embedded", str(place / "postgres"))
    job_id = int(console.output("enqueue", "fetch", "hello", *where))
    printed = console.output(*QUICKSTART, "--mode", "drain", *where)
    assert printed.startswith("Processed: ")
    (job,) = json.loads(console.output("jobs", "--json", *where))
    assert (job["id"], job["status"]) == (job_id, "succeeded")


def test_a_server_whose_process_was_killed_goes_with_the_next_one(place: Path) -> None:
    console = Console(REPOSITORY)
    where = ("--embedded", str(place / "postgres"))
    with console.start(*QUICKSTART, *where) as killed:
        killed.stderr.wait_for(" started: ")
        killed.signal(signal.SIGKILL)
        assert killed.ended() == -signal.SIGKILL
    runs = place / "postgres" / "postmaster.pid"
    assert runs.is_file()
    console.output("jobs", *where)
    assert not runs.exists()


def test_without_a_directory_the_server_lives_below_the_current_one(place: Path) -> None:
    console = Console(place)
    job_id = console.output("enqueue", "fetch", "--embedded")
    assert (place / DEFAULT_DIRECTORY / "PG_VERSION").is_file()
    assert console.output("jobs", "--embedded").splitlines()[1].split()[:2] == [job_id.strip(), "fetch"]


@pytest.mark.parametrize(
    ("arguments", "directory"),
    [
        (("--embedded", "shop:pgq"), DEFAULT_DIRECTORY),
        (("shop:pgq", "--embedded"), DEFAULT_DIRECTORY),
        (("--embedded", "./data", "shop:pgq"), Path("data")),
        (("--embedded=data", "shop:pgq"), Path("data")),
    ],
)
def test_what_follows_is_its_directory_only_if_it_looks_like_one(
    place: Path, arguments: tuple[str, ...], directory: Path
) -> None:
    console = Console(place)
    console.write("shop.py", "from pgq_sync import PgQueuer\npgq = PgQueuer.from_dsn()\npgq.entrypoint('fetch')(print)\n")
    console.output("worker", "--mode", "drain", *arguments)
    assert (place / directory / "PG_VERSION").is_file()


RESTARTED = """
import sys
from pathlib import Path
from pgq_sync import PgQueuer

print("called with", *sys.argv[2:])
pgq = PgQueuer.from_dsn()
pgq.entrypoint("fetch")(print)

if not Path("mark").exists():
    Path("mark").touch()
    sys.exit(1)
"""


def test_of_several_processes_the_first_runs_the_server_and_the_others_make_the_tables_once(place: Path) -> None:
    console = Console(place)
    console.write("shop.py", RESTARTED)
    with console.start("worker", "shop:pgq", "--processes", "1", "--embedded", "./data") as running:
        called = [running.stdout.wait_for("called with") for _ in range(2)]
        running.stderr.wait_for(" starts again in ")
        child = running.stderr.wait_for(" INFO pgq_sync.supervisor child 1 (pid ")
        running.stderr.wait_for(" started: ")
        os.kill(int(child.partition("(pid ")[2].partition(")")[0]), signal.SIGTERM)
        called.append(running.stdout.wait_for("called with"))
        running.stderr.wait_for(" started: ")
        running.signal(signal.SIGTERM)
        assert running.ended() == 0
    assert called == 2 * ["called with --supervised --install -- shop:pgq\n"] + ["called with --supervised -- shop:pgq\n"]


def test_a_signal_that_comes_while_the_server_stops_leaves_none_behind(place: Path) -> None:
    console = Console(place)
    console.write("shop.py", "from pgq_sync import PgQueuer\npgq = PgQueuer.from_dsn()\npgq.entrypoint('fetch')(print)\n")
    with console.start("worker", "shop:pgq", "--processes", "1", "--embedded", "./data") as running:
        running.stderr.wait_for(" started: ")
        running.signal(signal.SIGTERM)
        running.stderr.wait_for("all children have ended: exit code 0")
        for number in (signal.SIGTERM, signal.SIGINT):
            running.signal(number)
        assert running.ended() == 0
    assert not (place / "data" / "postmaster.pid").exists()


def test_an_embedded_server_comes_before_every_database_that_is_named(place: Path) -> None:
    nowhere = dict.fromkeys(("PGQ_DSN", "DATABASE_URL", "PGQ_LISTEN_DSN"), "host=/nonexistent")
    console = Console(REPOSITORY, **nowhere)
    where = ("--embedded", str(place / "postgres"))
    console.output("enqueue", "fetch", "hello", *where)
    assert console.output(*QUICKSTART, "--mode", "drain", *where).startswith("Processed: ")


@pytest.mark.parametrize("command", [("jobs",), ("worker", "shop:pgq"), ("demo",), ("listen",)], ids=lambda command: command[0])
def test_an_embedded_server_and_a_dsn_are_refused_together(place: Path, command: tuple[str, ...]) -> None:
    done = Console(place).run(*command, "--embedded", "./data", "--dsn", "host=/nonexistent")
    assert done.returncode == 2
    assert done.stderr.endswith("Error: --embedded and --dsn name two databases: give one of them\n")
    assert not (place / "data").exists()


def test_a_directory_that_cannot_be_used_is_refused(place: Path) -> None:
    (place / "file").write_text("not a directory")
    done = Console(place).run("install", "--embedded", "file/postgres")
    assert done.returncode == 2
    assert done.stderr.startswith("pgq-sync: the embedded PostgreSQL in file/postgres does not start: ")
    assert "Traceback" not in done.stderr


def test_a_directory_that_is_not_written_as_a_path_is_told_how(tmp_path: Path) -> None:
    done = Console(tmp_path).run("enqueue", "fetch", "x", "--embedded", "data")
    assert done.returncode == 2
    assert f"(data): for a directory of --embedded write {os.path.join('.', 'data')}\n" in done.stderr
    assert list(tmp_path.iterdir()) == []
