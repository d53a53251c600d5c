"""`migrate` makes and changes what `pgq-sync install` and `upgrade` do, wherever the tables are and whatever was there before."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.management import call_command
from django.db import connections
from django.db.migrations.loader import MigrationLoader
from django.test import override_settings

from pgq_sync import PgQueuer, Settings
from pgq_sync.contrib.django import DjangoPgQueuer
from pgq_sync.contrib.django.installing import BringUpToDate
from pgq_sync.storage import schema
from pgq_sync.storage.names import Names
from pgq_sync.storage.schema import script
from pgq_sync.storage.statements import Migration, migrations
from tests.django.conftest import point_to
from tests.django.managing import manage, settings_with
from tests.storage.roles import login
from tests.storage.support import query, wait_until_blocked_by

SECOND = Migration(2, "more", "alter table {job} add column more integer;")
PLACES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "a prefix": {"PREFIX": "our_"},
    "a schema": {"SCHEMA": "My Schema", "PREFIX": "q_"},
}


def _there(dsn: str, table: str = "pgq_job") -> bool:
    return bool(query(dsn, "select to_regclass(%s) is not null", [table])[0][0])


def _version(dsn: str) -> int:
    return int(query(dsn, "select version from pgq_version")[0][0])


def _columns(dsn: str) -> set[str]:
    return {row[0] for row in query(dsn, "select attname from pg_attribute where attrelid = 'pgq_job'::regclass and attnum > 0")}


@pytest.fixture
def empty(empty_dsn: str) -> Iterator[str]:
    """The site on a database with nothing in it."""
    point_to(empty_dsn)
    yield empty_dsn
    connections.close_all()


@pytest.fixture
def second_version(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A pgq-sync whose tables have a second version."""
    monkeypatch.setattr(schema, "migrations", lambda: (*migrations(), SECOND))
    with override_settings(MIGRATION_MODULES={"pgq_sync": "tests.django.site.later"}):
        yield


def _install(dsn: str, version: int) -> None:
    """What `pgq-sync install` of that time has made."""
    then = tuple(each for each in (*migrations(), SECOND) if each.version <= version)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "migrations", lambda: then)
        query(dsn, script("install", Names()))


@pytest.mark.parametrize("place", PLACES)
def test_from_nothing(place: str, empty_dsn: str) -> None:
    manage(empty_dsn, "migrate", pgq_sync=PLACES[place])
    settings = Settings(**{name.lower(): value for name, value in PLACES[place].items()})
    with PgQueuer.from_dsn(empty_dsn, settings=settings) as pgq:
        assert pgq.schema.verify() == []
        pgq.enqueue("work")
    count = "from pgq_sync.contrib.django.models import UnfinishedJob as U; print('found', U.objects.count())"
    assert "found 1" in manage(empty_dsn, "shell", "-c", count, pgq_sync=PLACES[place])


@pytest.mark.parametrize("version", [each.version for each in migrations()])
def test_on_a_database_of_each_version(version: int, empty: str) -> None:
    _install(empty, version)
    query(empty, "insert into pgq_job (entrypoint) values ('kept')")
    call_command("migrate", verbosity=0)
    assert query(empty, "select entrypoint from pgq_job") == [("kept",)]
    assert _version(empty) == migrations()[-1].version
    with PgQueuer.from_dsn(empty, settings=Settings()) as pgq:
        assert pgq.schema.verify() == []


@pytest.mark.parametrize("version", [0, 1, 2])
def test_a_second_version_comes_to_each_earlier_one(version: int, empty: str, second_version: None) -> None:
    if version:
        _install(empty, version)
    call_command("migrate", verbosity=0)
    assert _version(empty) == 2
    assert "more" in _columns(empty)


def test_a_second_version_comes_where_the_first_was_migrated(pgq: DjangoPgQueuer, site_dsn: str, second_version: None) -> None:
    assert (_version(site_dsn), "more" in _columns(site_dsn)) == (1, False)
    call_command("migrate", verbosity=0)
    assert (_version(site_dsn), "more" in _columns(site_dsn)) == (2, True)
    call_command("migrate", "pgq_sync", "0001", verbosity=0)
    assert _there(site_dsn)  # only the first one, backwards, drops anything
    call_command("migrate", verbosity=0)
    assert _version(site_dsn) == 2


def test_sqlmigrate_of_each_migration_prints_its_own_version_only(empty: str, second_version: None) -> None:
    for name, version in (("0001", 1), ("0002", 2)):
        printed = io.StringIO()
        call_command("sqlmigrate", "pgq_sync", name, stdout=printed)
        query(empty, printed.getvalue())
        assert (_version(empty), "more" in _columns(empty)) == (version, version == 2)


def test_every_version_of_the_tables_has_a_migration() -> None:
    loader = MigrationLoader(None)
    versions = {
        operation.version
        for (app, _), migration in loader.disk_migrations.items()
        for operation in migration.operations
        if app == "pgq_sync" and isinstance(operation, BringUpToDate)
    }
    assert versions == {each.version for each in migrations()}


@pytest.mark.parametrize("place", PLACES)
def test_the_models_have_no_changes_that_are_not_in_migrations(place: str, site_dsn: str) -> None:
    assert "No changes" in manage(site_dsn, "makemigrations", "--check", "--dry-run", pgq_sync=PLACES[place])


def test_back_to_nothing(pgq: DjangoPgQueuer, site_dsn: str) -> None:
    call_command("migrate", "pgq_sync", "zero", verbosity=0)
    assert query(site_dsn, "select relname::text from pg_class where relname ~ '^pgq_'") == []
    assert query(site_dsn, "select proname::text from pg_proc where proname ~ '^pgq_'") == []
    call_command("migrate", verbosity=0)
    assert pgq.schema.verify() == []


@pytest.mark.parametrize("place", PLACES)
def test_sqlmigrate_prints_what_makes_the_tables_and_does_nothing(place: str, empty_dsn: str) -> None:
    names = Names(PLACES[place].get("PREFIX", "pgq_"), PLACES[place].get("SCHEMA"))
    printed = manage(empty_dsn, "sqlmigrate", "pgq_sync", "0001", pgq_sync=PLACES[place])
    assert not _there(empty_dsn, names.qualified("job"))
    assert printed.lower().count("begin;") == 1
    query(empty_dsn, printed)
    settings = Settings(prefix=names.prefix, schema=names.schema)
    with PgQueuer.from_dsn(empty_dsn, settings=settings) as pgq:
        assert pgq.schema.verify() == []


def test_sqlmigrate_backwards_drops_nothing_either(pgq: DjangoPgQueuer, site_dsn: str) -> None:
    printed = manage(site_dsn, "sqlmigrate", "pgq_sync", "0001", "--backwards")
    assert _there(site_dsn)
    query(site_dsn, printed)
    assert not _there(site_dsn)


def test_only_the_database_that_has_the_queue_gets_the_tables(empty_dsn: str, site_dsn: str, tmp_path: Path) -> None:
    settings = settings_with(tmp_path, f"DATABASES['jobs'] = database_entry({empty_dsn!r})\nPGQ_SYNC = {{'DATABASE': 'jobs'}}")
    query(site_dsn, script("uninstall", Names()))
    query(site_dsn, "delete from django_migrations where app = 'pgq_sync'")
    manage(site_dsn, "migrate", settings=settings)
    assert not _there(site_dsn)
    manage(site_dsn, "migrate", "--database", "jobs", settings=settings)
    assert _there(empty_dsn)
    assert not _there(site_dsn)


def test_a_router_that_keeps_the_app_out_is_heard(empty_dsn: str, tmp_path: Path) -> None:
    (tmp_path / "routing_of_a_test.py").write_text(
        "class Router:\n    def allow_migrate(self, db, app_label, **_):\n        return app_label != 'pgq_sync'\n"
    )
    settings = settings_with(tmp_path, "DATABASE_ROUTERS = ['routing_of_a_test.Router']")
    manage(empty_dsn, "migrate", settings=settings)
    assert not _there(empty_dsn)


def test_a_role_without_rights_is_told_what_to_do(empty: str) -> None:
    for app in ("contenttypes", "auth"):
        call_command("migrate", app, verbosity=0)
    with login(empty, "migrator") as (name, dsn):
        query(empty, f'revoke create on schema public from public; grant select, insert on django_migrations to "{name}"')
        said = manage(dsn, "migrate", "pgq_sync", fails=True)
    last = said.strip().splitlines()[-1]
    assert "permission denied for schema public" in last
    assert name in last
    assert "pgq-sync install" in last


def test_of_two_at_once_one_waits(empty: str) -> None:
    for app in ("contenttypes", "auth"):
        call_command("migrate", app, verbosity=0)
    with psycopg.connect(empty) as other:
        other.execute(script("install", Names()).removeprefix("begin;").removesuffix("commit;\n").encode())
        second = threading.Thread(target=_migrate_and_close)
        second.start()
        wait_until_blocked_by(empty, other.info.backend_pid)
        other.commit()
        second.join(30)
    assert not second.is_alive()
    assert query(empty, "select count(*) from django_migrations where app = 'pgq_sync'") == [(1,)]
    with PgQueuer.from_dsn(empty, settings=Settings()) as pgq:
        assert pgq.schema.verify() == []


def _migrate_and_close() -> None:
    call_command("migrate", "pgq_sync", verbosity=0)
    connections.close_all()
