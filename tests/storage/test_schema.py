"""Installing, checking and removing the tables, under any prefix and in any schema."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pgq_sync import ConfigError, Job, NewJob, PgQueuer, SchemaError, Settings
from pgq_sync.storage.names import Names
from pgq_sync.storage.schema import script
from pgq_sync.storage.statements import Migration, migrations
from tests.storage.support import query, wait_until_blocked_by

# Where an installation may be. Some names also occur in the functions' own text.
PLACES: dict[str, Settings] = {
    "defaults": Settings(),
    "a prefix": Settings(prefix="Our_Jobs_"),
    "a schema": Settings(schema="jobs"),
    "a schema in mixed case": Settings(schema="My Schema", prefix="Q"),
    "a schema with signs": Settings(schema="my-$chema"),
    "a schema named like a table's alias": Settings(schema="job"),
    "a schema named like the package": Settings(schema="pgq_sync"),
    "a schema named like a word of SQL": Settings(schema="select", prefix="group_"),
    "the longest prefix": Settings(prefix="p" * 32),
    "letters beyond ASCII": Settings(schema="plätze", prefix="ä_"),
}


@contextmanager
def _application(dsn: str, settings: Settings | None = None) -> Iterator[PgQueuer]:
    with PgQueuer.from_dsn(dsn, settings=settings or Settings()) as pgq:
        yield pgq


@pytest.fixture(params=PLACES)
def placed(request: pytest.FixtureRequest, empty_dsn: str) -> Iterator[PgQueuer]:
    """An application whose tables are not installed yet."""
    with _application(empty_dsn, PLACES[request.param]) as pgq:
        yield pgq


def _leftovers(dsn: str, prefix: str) -> list[str]:
    """Whatever in the database has a name that begins so."""
    found = query(
        dsn,
        """
        select relname::text from pg_class where starts_with(relname, %(prefix)s)
        union all select proname::text from pg_proc where starts_with(proname, %(prefix)s)
        union all select typname::text from pg_type where starts_with(ltrim(typname, '_'), %(prefix)s)
        union all select tgname::text from pg_trigger where starts_with(tgname, %(prefix)s)
        union all select conname::text from pg_constraint where starts_with(conname, %(prefix)s)
        """,
        {"prefix": prefix},
    )
    return [row[0] for row in found]


def _catalog(dsn: str) -> list[tuple[Any, ...]]:
    return query(dsn, "select oid, relname, relfilenode from pg_class where relnamespace = 'public'::regnamespace order by 1")


def test_an_installation_works_from_end_to_end_wherever_it_is(placed: PgQueuer) -> None:
    assert placed.schema.install() != []
    assert placed.schema.verify() == []
    seen = []

    @placed.entrypoint("work")
    def work(job: Job) -> None:
        seen.append(job.payload)

    placed.enqueue("work", "one")
    placed.enqueue_many([NewJob(entrypoint="work", payload="two", dedupe_key="k"), NewJob(entrypoint="work", payload="three")])
    placed.enqueue("work", "four", dedupe_key="k", on_conflict="replace")
    assert placed.drain().counts == {"succeeded": 3}
    assert sorted(seen, key=str) == [b"four", b"one", b"three"]
    assert placed.jobs.count() == {("work", "succeeded"): 3}


def test_installing_again_changes_nothing(placed: PgQueuer) -> None:
    first = placed.schema.install()
    placed.enqueue("work", dedupe_key="kept")

    assert placed.schema.install() == placed.schema.upgrade() == placed.schema.upgrade(plan=True) == []

    assert len(first) >= 1
    assert placed.jobs.count() == {("work", "queued"): 1}


def test_uninstalling_leaves_nothing(placed: PgQueuer, empty_dsn: str) -> None:
    prefix, schema = placed.settings.prefix, placed.settings.schema
    placed.schema.install()
    assert len(_leftovers(empty_dsn, prefix)) > 30
    placed.enqueue("work")

    placed.schema.uninstall()

    assert _leftovers(empty_dsn, prefix) == []
    if schema:
        assert query(empty_dsn, "select 1 from pg_namespace where nspname = %s", [schema]) == [(1,)]
    placed.schema.uninstall()
    placed.schema.install()
    assert placed.jobs.count() == {}


def test_installing_again_does_not_touch_a_table(pgq: PgQueuer, dsn: str) -> None:
    before = _catalog(dsn)

    assert pgq.schema.install() == []

    assert _catalog(dsn) == before


def _at_once(dsn: str, action: str) -> list[list[str]]:
    """What five say that they did who act together."""
    barrier = threading.Barrier(5)

    def act(number: int) -> list[str]:
        with _application(dsn) as pgq:
            barrier.wait(30)
            done: list[str] = getattr(pgq.schema, action)()
            return done

    with ThreadPoolExecutor(5) as threads:
        return sorted(threads.map(act, range(5)))


def test_of_five_that_install_at_once_one_works_and_the_others_wait(empty_dsn: str) -> None:
    done = _at_once(empty_dsn, "install")

    assert [bool(each) for each in done] == [False] * 4 + [True]
    with _application(empty_dsn) as pgq:
        assert pgq.schema.verify() == []


@pytest.fixture
def newer(monkeypatch: pytest.MonkeyPatch) -> str:
    """Makes this package know one more migration than the tests' databases have; gives its title."""
    last = migrations()[-1].version
    added = Migration(last + 1, "add a table", "create table added_by_upgrade ();")
    monkeypatch.setattr("pgq_sync.storage.schema.migrations", lambda: (*migrations(), added))
    return f"{last + 1:04d} add a table"


def test_of_five_that_upgrade_at_once_one_works_and_the_others_wait(dsn: str, newer: str) -> None:
    assert _at_once(dsn, "upgrade") == [[]] * 4 + [[newer]]


def test_upgrading_runs_what_is_missing_once(pgq: PgQueuer, dsn: str, newer: str) -> None:
    pgq.enqueue("work")
    with pytest.raises(SchemaError, match="`pgq-sync upgrade`"):
        pgq.store.require_schema()

    assert pgq.schema.upgrade(plan=True) == [newer]
    assert query(dsn, "select to_regclass('added_by_upgrade') is null") == [(True,)]
    assert pgq.schema.upgrade() == [newer]
    assert query(dsn, "select to_regclass('added_by_upgrade') is null") == [(False,)]

    assert pgq.schema.upgrade() == pgq.schema.upgrade(plan=True) == pgq.schema.install() == []
    pgq.store.require_schema()
    assert pgq.jobs.count() == {("work", "queued"): 1}


def test_others_wait_for_an_installation_that_is_not_committed(empty_dsn: str) -> None:
    text = script("install", Names())
    with closing(psycopg.connect(empty_dsn, autocommit=True)) as slow, ThreadPoolExecutor(1) as thread:
        slow.execute(text.rpartition("commit")[0].encode())
        with _application(empty_dsn) as pgq:
            other = thread.submit(pgq.schema.install)
            wait_until_blocked_by(empty_dsn, slow.info.backend_pid)
            slow.execute("commit")
            assert other.result() == []


def test_upgrading_what_is_not_there_names_the_command(empty_dsn: str) -> None:
    with _application(empty_dsn) as pgq:
        for call in (pgq.schema.upgrade, lambda: pgq.schema.upgrade(plan=True), pgq.schema.verify, pgq.schema.durability):
            with pytest.raises(SchemaError, match="`pgq-sync install`"):
                call()
    assert _leftovers(empty_dsn, "pgq_") == []


@pytest.mark.parametrize("place", PLACES)
def test_the_script_makes_what_install_makes_and_unmakes_it(empty_dsn: str, place: str) -> None:
    names = Names(PLACES[place].prefix, PLACES[place].schema)

    query(empty_dsn, script("install", names))
    with _application(empty_dsn, PLACES[place]) as pgq:
        assert pgq.schema.verify() == []
        assert pgq.schema.install() == []
        query(empty_dsn, script("upgrade", names, migrations()[-1].version))
        assert pgq.schema.verify() == []

    query(empty_dsn, script("uninstall", names))
    assert _leftovers(empty_dsn, names.prefix) == []


@pytest.mark.parametrize("action", ["install", "upgrade", "uninstall"])
def test_a_script_is_always_the_same_and_ends_each_statement(action: Any) -> None:
    text = script(action, Names("x_", "Y"))

    assert text == script(action, Names("x_", "Y"))
    assert text != script(action, Names("x_", "Z"))
    assert text.startswith("begin;\n")
    assert text.endswith(";\ncommit;\n")
    assert "{" not in text.replace("'{}'", "")


def _persistence(dsn: str) -> tuple[str, set[str]]:
    """Of the queue, and of history's partitions: p for permanent, u for unlogged."""
    job = query(dsn, "select relpersistence::text from pg_class where relname = 'pgq_job'")[0][0]
    rows = query(
        dsn,
        "select relpersistence::text from pg_inherits join pg_class on oid = inhrelid where inhparent = 'pgq_history'::regclass",
    )
    return job, {row[0] for row in rows}


@pytest.mark.parametrize("mode", ["volatile", "balanced", "durable"])
def test_durability_is_a_property_of_the_tables_and_of_new_partitions(pgq: PgQueuer, dsn: str, mode: Any) -> None:
    expected = {"volatile": ("u", {"u"}), "balanced": ("p", {"u"}), "durable": ("p", {"p"})}[mode]
    assert pgq.schema.durability() == "durable"
    pgq.enqueue("work")

    assert pgq.schema.durability(mode) == pgq.schema.durability() == mode

    assert _persistence(dsn) == expected
    query(dsn, "select pgq_maintain(now() + interval '30 days')")
    assert _persistence(dsn) == expected
    assert pgq.schema.verify() == []
    assert pgq.jobs.count() == {("work", "queued"): 1}
    pgq.schema.durability("durable")
    assert _persistence(dsn) == ("p", {"p"})


def test_an_unknown_durability_is_refused(pgq: PgQueuer) -> None:
    with pytest.raises(ConfigError, match=r"'fast'.*volatile, balanced or durable"):
        pgq.schema.durability("fast")  # type: ignore[arg-type]


def test_autovacuum_suits_a_queue_until_it_is_rolled_back(pgq: PgQueuer, dsn: str) -> None:
    options = "select coalesce(array_length(reloptions, 1), 0) from pg_class where relname = 'pgq_job'"
    ((installed,),) = query(dsn, options)
    assert installed > 3

    pgq.schema.autovac(rollback=True)
    assert query(dsn, options) == [(0,)]

    pgq.schema.autovac()
    assert query(dsn, options) == [(installed,)]
    assert pgq.schema.verify() == []


def _refusal(dsn: str) -> str:
    with _application(dsn) as pgq:
        pgq.entrypoint("work")(lambda job: None)
        with pytest.raises(SchemaError) as caught:
            pgq.drain()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_worker_without_a_schema_names_the_command(empty_dsn: str) -> None:
    assert "`pgq-sync install`" in _refusal(empty_dsn)


@pytest.mark.parametrize(("version", "advice"), [(9999, "pip install -U pgq-sync"), (0, "`pgq-sync upgrade`")])
def test_a_worker_on_another_version_names_the_command(dsn: str, version: int, advice: str) -> None:
    query(dsn, "update pgq_version set version = %s", [version])

    message = _refusal(dsn)
    assert str(version) in message
    assert advice in message


def test_without_a_schema_the_first_one_on_the_search_path_holds_it_all(empty_dsn: str) -> None:
    query(empty_dsn, "create schema app")
    query(empty_dsn, "create view public.pgq_job as select 'theirs' as job")

    with _application(make_conninfo(empty_dsn, options="-c search_path=app,public")) as pgq:
        pgq.entrypoint("work")(lambda job: None)
        pgq.schema.install()
        pgq.enqueue("work")
        assert pgq.drain().counts == {"succeeded": 1}
        assert pgq.schema.verify() == []
        pgq.schema.uninstall()

    assert set(_leftovers(empty_dsn, "pgq_")) == {"pgq_job", "_pgq_job"}  # the view, its type and the array of it
    assert query(empty_dsn, "select job from public.pgq_job") == [("theirs",)]
