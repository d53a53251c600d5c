"""What `pgq-sync worker module:attribute` may name, and what it says about anything else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pgq_sync import PgQueuer
from tests.cli.console import Console

APPLICATION = """
import contextlib, json
from pgq_sync import PgQueuer

def make(arguments=()):
    made = PgQueuer.from_dsn()
    @made.entrypoint("fetch")
    def fetch(job):
        print(f"got {job.payload.decode()}\\n", end="")  # at once, so that threads do not share lines
    return made

pgq = make()

class parts:
    class inner:
        pgq = pgq

def made():
    return make()

def told(arguments: list[str]):
    print(json.dumps(arguments))
    return make()

def told_perhaps(arguments: list[str] = []):
    return told(arguments)

@contextlib.contextmanager
def scoped():
    print("entered")
    yield make()
    print("closed")

@contextlib.contextmanager
def scoped_and_told(arguments: list[str]):
    print("entered with", *arguments)
    yield make()
    print("closed")

class Scope:
    def __enter__(self):
        print("entered")
        return make()

    def __exit__(self, *error):
        print("closed")

scope = Scope()

async def asynchronous():
    return make()

@contextlib.asynccontextmanager
async def asynchronously_scoped():
    yield make()

@contextlib.contextmanager
def scoped_number():
    yield 7

number = 7

@pgq.task
def task(arguments):
    raise AssertionError("nobody asked for its work")

def seven():
    return 7
"""


@pytest.fixture
def shop(console: Console) -> Console:
    """A console in a directory with an application."""
    console.write("shop.py", APPLICATION)
    console.write("factory.py", "from pgq_sync import PgQueuer\n\ndef make():\n    return PgQueuer.from_dsn()\n")
    return console


def drain(console: Console, target: str, *arguments: str) -> str:
    return console.output("worker", target, "--mode", "drain", *(["--", *arguments] if arguments else []))


@pytest.mark.parametrize("target", ["shop:pgq", "shop:parts.inner.pgq", "shop:made", "shop:make"])
def test_an_application_or_what_makes_one_is_run(shop: Console, pgq: PgQueuer, target: str) -> None:
    pgq.enqueue("fetch", "hello")
    assert drain(shop, target) == "got hello\n"
    assert pgq.jobs.count() == {("fetch", "succeeded"): 1}


def test_a_module_may_lie_in_a_package(console: Console, pgq: PgQueuer) -> None:
    console.write("company/__init__.py", "")
    console.write("company/shop.py", APPLICATION)
    pgq.enqueue("fetch", "hello")
    assert drain(console, "company.shop:pgq") == "got hello\n"


def test_the_installed_command_finds_applications_in_the_current_directory_too(shop: Console, dsn: str) -> None:
    command = shutil.which("pgq-sync", path=str(Path(sys.executable).parent))
    if command is None:
        pytest.skip("the package is not installed")
    done = subprocess.run(
        [command, "worker", "shop:told", "--mode", "drain", "--", "a"],
        cwd=shop.directory,
        env={"PGQ_DSN": dsn},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, '["a"]\n'), done.stderr


@pytest.mark.parametrize("target", ["shop:told", "shop:told_perhaps"])
@pytest.mark.parametrize("arguments", [[], ["a", "--mode", "-x", "b c", ""], ["--"]])
def test_what_stands_after_the_dashes_is_given_to_a_callable(shop: Console, target: str, arguments: list[str]) -> None:
    assert json.loads(drain(shop, target, *arguments)) == arguments


@pytest.mark.parametrize("target", ["shop:scoped", "shop:Scope", "shop:scope"])
def test_a_context_manager_is_entered_once_and_left_after_the_last_job(shop: Console, pgq: PgQueuer, target: str) -> None:
    for payload in "ab":
        pgq.enqueue("fetch", payload)
    lines = drain(shop, target).splitlines()
    assert (lines[0], sorted(lines[1:-1]), lines[-1]) == ("entered", ["got a", "got b"], "closed")


def test_a_context_manager_gets_arguments_too(shop: Console) -> None:
    assert drain(shop, "shop:scoped_and_told", "a", "b").splitlines() == ["entered with a b", "closed"]


@pytest.mark.parametrize(
    ("target", "complaint"),
    [
        ("shop", "'shop' names no application: write module:attribute"),
        ("shop:", "'shop:' names no application"),
        (":pgq", "':pgq' names no application"),
        ("shops:pgq", "there is no module 'shops'"),
        ("shop/jobs.py:pgq", "from the current directory: write shop.jobs:pgq"),
        ("shop.orders:pgq", "there is no module 'shop.orders'"),
        ("shops.orders:pgq", "there is no module 'shops'"),
        (".shop:pgq", ".shop"),
        ("..:pgq", ".."),
        ("shop:pqg", "shop has no attribute 'pqg'; it has pgq"),
        ("shop:parts.outer.pgq", "shop has no attribute 'parts.outer.pgq'"),
        ("factory:maek", "factory has no attribute 'maek'; it has make"),
        ("factory:xyzzy", "factory has no attribute 'xyzzy'"),
        ("factory:make", "factory:make: no entrypoint is registered: decorate functions with its entrypoint(...)"),
        ("shop:task", "shop:task is a task: a PgQueuer is needed"),
        ("shop:number", "shop:number gave builtins.int: a PgQueuer is needed"),
        ("shop:seven", "shop:seven gave builtins.int: a PgQueuer is needed"),
        ("shop:scoped_number", "shop:scoped_number gave builtins.int: a PgQueuer is needed"),
        ("builtins:dict", "builtins:dict gave builtins.dict: a PgQueuer is needed"),
        ("shop:asynchronous", "shop:asynchronous is async: a plain callable is needed"),
        ("shop:asynchronously_scoped", "shop:asynchronously_scoped is async: a plain callable is needed"),
    ],
)
def test_what_names_no_application_is_refused_in_one_line(shop: Console, target: str, complaint: str) -> None:
    assert complaint in shop.refused("worker", target, "--mode", "drain", code=2)


@pytest.mark.parametrize(
    ("target", "complaint"),
    [
        ("shop:pgq", "shop:pgq is not called, and takes no arguments: a b"),
        ("shop:made", "shop:made takes no arguments, but was given: a b"),
        ("shop:scoped", "shop:scoped takes no arguments, but was given: a b"),
    ],
)
def test_arguments_that_nobody_takes_are_refused(shop: Console, target: str, complaint: str) -> None:
    assert complaint in shop.refused("worker", target, "--mode", "drain", "--", "a", "b", code=2)


BROKEN_NAME = "from pgq_sync import PgQueuer\nPgQueuer.in_memory().entrypoint('')(print)"


@pytest.mark.parametrize(
    ("module", "text", "error"),
    [
        pytest.param(module, text, error, id=text.partition("\n")[0])
        for module, text, error in (
            ("broken.py", "import not_installed_here", "ModuleNotFoundError: No module named 'not_installed_here'"),
            ("broken/__init__.py", "import broken.orders", "ModuleNotFoundError: No module named 'broken.orders'"),
            ("broken.py", "from pgq_sync import Nothing", "ImportError: cannot import name 'Nothing' from 'pgq_sync'"),
            ("broken.py", "from broken import nothing", "ImportError: cannot import name 'nothing' from"),
            ("broken.py", "pgq = 1 / 0", "ZeroDivisionError: division by zero"),
            ("broken.py", "def pgq(:", "SyntaxError"),
            ("broken.py", BROKEN_NAME, "ValueError: entrypoint='' has 0 characters"),
        )
    ],
)
def test_an_error_inside_the_application_is_shown_as_it_is_and_where(
    console: Console, module: str, text: str, error: str
) -> None:
    console.write(module, text + "\n")
    done = console.run("worker", "broken:pgq")
    assert done.returncode == 1
    assert error in done.stderr
    assert module in done.stderr.replace("\\", "/")


@pytest.mark.parametrize(
    "error",
    [
        "LookupError('no such shop')",
        "ConnectionRefusedError('the shop is closed')",
        "psycopg.errors.UndefinedTable('relation \"shop\" does not exist')",
        "psycopg.OperationalError('the shop is away')",
    ],
)
def test_an_error_inside_a_factory_is_shown_as_it_is(console: Console, error: str) -> None:
    console.write("shop.py", f"import psycopg\ndef fails():\n    raise {error}\n")
    done = console.run("worker", "shop:fails")
    assert done.returncode == 1
    assert "in fails" in done.stderr
    assert done.stderr.rstrip().endswith(error.partition("'")[2].rpartition("'")[0])
