"""The commands that make, check and change the tables, and those that only print the SQL for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pgq_sync.storage.statements import migrations
from tests.cli.console import Console

LATEST = migrations()[-1].version
TITLES = [f"{each.version:04d} {each.title}" for each in migrations()]
OURS = """
    select relname from pg_class where relname like 'pgq\\_%' and relkind <> 'i'
    union all select proname from pg_proc where proname like 'pgq\\_%'
    order by 1
"""


def execute(dsn: str, sql: str) -> list[Any]:
    """Runs statements on a connection apart; the rows of the last one."""
    with closing(psycopg.connect(dsn, autocommit=True)) as connection:
        cursor = connection.execute(sql.encode())
        return cursor.fetchall() if cursor.description else []


def test_install_makes_the_tables_once(empty_console: Console, empty_dsn: str) -> None:
    assert empty_console.output("install").splitlines() == [f"installed {title}" for title in TITLES]
    made = execute(empty_dsn, OURS)
    assert empty_console.output("install") == "the schema is up to date\n"
    assert execute(empty_dsn, OURS) == made != []
    assert empty_console.output("verify") == "the schema is as it should be\n"


def test_several_installations_live_beside_each_other(empty_console: Console) -> None:
    there = ("--prefix", "Shop_", "--schema", "the jobs")
    empty_console.output("install", *there)
    assert "there are no pgq_* tables in the search_path" in empty_console.refused("verify", code=1)
    empty_console.output("install")
    empty_console.output("uninstall", "--yes")
    assert empty_console.output("verify", *there) == "the schema is as it should be\n"
    assert empty_console.output("verify", PGQ_PREFIX="Shop_", PGQ_SCHEMA="the jobs") == "the schema is as it should be\n"


def test_upgrade_tells_what_it_would_do_and_does_nothing_where_nothing_is_to_do(console: Console, dsn: str) -> None:
    assert console.output("upgrade", "--plan") == "the schema is up to date\n"
    assert console.output("upgrade") == "the schema is up to date\n"
    execute(dsn, "update pgq_version set version = 0")
    assert console.output("upgrade", "--plan").splitlines() == [f"would run {title}" for title in TITLES]
    assert execute(dsn, "select version from pgq_version") == [(0,)]


@pytest.mark.parametrize("command", ["upgrade", "verify", "durability", "autovac"])
def test_without_tables_a_command_names_the_one_that_makes_them(empty_console: Console, command: str) -> None:
    assert empty_console.refused(command, code=1).endswith("of this database: run `pgq-sync install`")


@pytest.mark.parametrize("command", [("install",), ("upgrade",), ("upgrade", "--plan"), ("verify",), ("durability",)])
def test_a_newer_schema_is_left_alone(console: Console, dsn: str, command: tuple[str, ...]) -> None:
    execute(dsn, "update pgq_version set version = 99")
    complaint = console.refused(*command, code=1)
    assert complaint.startswith(f"the schema has version 99, this pgq-sync knows only {LATEST}: ")
    assert complaint.endswith("`pip install -U pgq-sync`")


def test_verify_prints_each_difference_and_fails(console: Console, dsn: str) -> None:
    assert console.output("verify") == "the schema is as it should be\n"
    execute(dsn, "drop index pgq_job_ready")
    execute(dsn, "alter table pgq_worker add column extra text")

    done = console.run("verify")
    assert (done.returncode, done.stderr) == (1, "")
    assert "missing: index pgq_job_ready\n" in done.stdout
    assert "unexpected: column pgq_worker.extra\n" in done.stdout
    assert done.stdout.endswith("2 differences\n")


def test_a_function_that_was_changed_is_a_difference(console: Console, dsn: str) -> None:
    execute(dsn, "alter function pgq_announce_insert() reset search_path")
    execute(dsn, "create or replace function pgq_announce_insert() returns trigger language plpgsql as 'begin return null; end'")
    done = console.run("verify")
    assert done.returncode == 1
    assert "different: function pgq_announce_insert" in done.stdout


@pytest.mark.parametrize(("answer", "code", "left"), [("n\n", 130, True), ("", 130, True), ("y\n", 0, False)])
def test_uninstall_asks_first(console: Console, dsn: str, answer: str, code: int, left: bool) -> None:
    done = console.run("uninstall", stdin=answer)
    assert done.returncode == code
    assert "Drop all jobs and their history?" in done.stdout
    assert bool(execute(dsn, OURS)) is left


def test_uninstall_leaves_nothing_and_may_be_repeated(console: Console, dsn: str) -> None:
    console.output("enqueue", "fetch")
    for _ in range(2):
        assert console.output("uninstall", "--yes") == "uninstalled\n"
        assert execute(dsn, OURS) == []


def test_durability_is_told_and_set(console: Console, dsn: str) -> None:
    assert console.output("durability") == "durable\n"
    for mode, job, history in (("volatile", "u", "u"), ("balanced", "p", "u"), ("durable", "p", "p")):
        assert console.output("durability", mode) == f"{mode}\n"
        assert console.output("durability") == f"{mode}\n"
        assert execute(dsn, "select relpersistence from pg_class where relname = 'pgq_job'") == [(job,)]
        kept = execute(dsn, "select distinct relpersistence from pg_class where relname ~ '^pgq_history_\\d'")
        assert kept == [(history,)]
        assert console.output("verify") == "the schema is as it should be\n"


def test_autovacuum_is_set_and_given_back(console: Console, dsn: str) -> None:
    options = "select reloptions from pg_class where relname = 'pgq_job'"
    installed = execute(dsn, options)
    assert "autovacuum_vacuum_scale_factor=0.01" in installed[0][0]
    assert console.output("autovac", "--rollback") == "autovacuum is set as the server has it\n"
    assert execute(dsn, options) == [(None,)]
    assert console.output("autovac") == "autovacuum is set as it suits a queue\n"
    assert execute(dsn, options) == installed


SQL_COMMANDS = [
    ("install",),
    ("install", "--prefix", "Shop_", "--schema", "the jobs"),
    ("upgrade", "--from", "0"),
    ("upgrade", "--from", str(LATEST)),
    ("uninstall",),
    ("grants", "--producer", "web", "--worker", 'the "night" shift', "--operator", "desk"),
]


@pytest.mark.parametrize("command", SQL_COMMANDS, ids=" ".join)
def test_printed_sql_is_the_same_each_time_and_needs_no_database(offline: Console, command: tuple[str, ...]) -> None:
    printed = offline.output("sql", *command, PYTHONHASHSEED="1")
    assert printed.rstrip().endswith(";")
    assert offline.output("sql", *command, PYTHONHASHSEED="2", PGQ_DSN="") == printed


def test_printed_sql_installs_what_verify_expects_and_removes_it_again(empty_console: Console, empty_dsn: str) -> None:
    execute(empty_dsn, empty_console.output("sql", "install"))
    assert empty_console.output("verify") == "the schema is as it should be\n"
    execute(empty_dsn, empty_console.output("sql", "upgrade", "--from", str(LATEST)))
    assert empty_console.output("verify") == "the schema is as it should be\n"
    execute(empty_dsn, empty_console.output("sql", "uninstall"))
    assert execute(empty_dsn, OURS) == []


def test_printed_sql_for_another_place_fits_the_same_options(empty_console: Console, empty_dsn: str) -> None:
    there = ("--prefix", "Shop_", "--schema", "the jobs")
    execute(empty_dsn, empty_console.output("sql", "install", *there))
    assert empty_console.output("verify", *there) == "the schema is as it should be\n"
    execute(empty_dsn, empty_console.output("sql", "uninstall", *there))
    assert "there are no Shop_* tables in schema 'the jobs'" in empty_console.refused("verify", *there, code=1)


@pytest.fixture
def roles(dsn: str) -> Iterator[dict[str, str]]:
    """A role that enqueues and one that works, with no rights yet."""
    names = {kind: f'pgq_test_{os.getpid()} "{kind}"' for kind in ("producer", "worker")}
    quoted = ['"' + name.replace('"', '""') + '"' for name in names.values()]
    for role in quoted:
        execute(dsn, f"create role {role}")
    yield names
    for role in quoted:
        execute(dsn, f"drop owned by {role}; drop role {role}")


def test_the_granted_rights_are_enough(console: Console, dsn: str, roles: dict[str, str]) -> None:
    def acting_as(kind: str) -> str:
        role = roles[kind].replace("\\", "\\\\").replace(" ", "\\ ")
        return make_conninfo(dsn, options=f"-c role={role}")

    console.write("shop.py", "from pgq_sync import PgQueuer\npgq = PgQueuer.from_dsn()\npgq.entrypoint('fetch')(print)\n")
    assert console.run("enqueue", "fetch", PGQ_DSN=acting_as("producer")).returncode == 1
    execute(dsn, console.output("sql", "grants", "--producer", roles["producer"], "--worker", roles["worker"]))

    console.output("enqueue", "fetch", PGQ_DSN=acting_as("producer"))
    console.output("worker", "shop:pgq", "--mode", "drain", PGQ_DSN=acting_as("worker"))
    assert "succeeded" in console.output("jobs")
    assert console.run("uninstall", "--yes", PGQ_DSN=acting_as("worker")).returncode == 1


def test_grants_need_a_role_to_give_them_to(offline: Console) -> None:
    done = offline.run("sql", "grants")
    assert done.returncode == 2
    assert done.stderr.endswith("Error: name a role: --producer ROLE, --worker ROLE, --operator ROLE or --watcher ROLE\n")


@pytest.mark.parametrize("command", [("install",), ("verify",), ("sql", "install")])
def test_a_prefix_that_cannot_be_one_is_refused(offline: Console, command: tuple[str, ...]) -> None:
    assert "--prefix='a-b': a name of letters, digits and underscores" in offline.refused(*command, "--prefix", "a-b", code=2)
