"""`manage.py pgq_worker` and `manage.py pgq`, in processes of their own, and what they say where something is wrong."""

from __future__ import annotations

import io
import signal
from typing import Any

import pytest
from django.core.management import call_command

from pgq_sync.contrib.django import DjangoPgQueuer
from pgq_sync.testing.databases import database
from tests.django.project import environment, manage, python, running
from tests.django.site.shop.models import Order
from tests.django.site.shop.tasks import place
from tests.waiting import wait_until

SQLITE = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
ABSENT = {"HOST": "/nonexistent"}


def test_a_worker_drains(pgq: DjangoPgQueuer, site_dsn: str) -> None:
    place.enqueue("one")
    done = manage("pgq_worker", "--mode=drain", env=environment(site_dsn))
    assert done.returncode == 0, done.stderr
    assert "done: 1 succeeded" in done.stderr
    assert Order.objects.get().note == "one"


@pytest.mark.parametrize("options", [[], ["--processes=2"], ["--reload"], ["--settings=tests.django.site.settings"]])
def test_a_worker_runs_until_it_is_asked_to_stop(pgq: DjangoPgQueuer, site_dsn: str, options: list[str]) -> None:
    with running("-m", "django", "pgq_worker", *options, env=environment(site_dsn)) as process:
        place.enqueue("one")
        wait_until(Order.objects.exists)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output


def test_a_worker_of_pgq_sync_finds_the_project(pgq: DjangoPgQueuer, site_dsn: str) -> None:
    place.enqueue("one")
    target = "pgq_sync.contrib.django.worker:application"
    done = python("-m", "pgq_sync", "worker", "--mode=drain", target, env=environment(site_dsn))
    assert done.returncode == 0, done.stderr
    assert Order.objects.get().note == "one"


def test_pgq_sync_is_called_with_the_projects_settings(pgq: DjangoPgQueuer, site_dsn: str) -> None:
    place.enqueue("one")
    listed = manage("pgq", "jobs", "--json", env=environment(site_dsn))
    assert place.name in listed.stdout, listed.stderr
    assert manage("pgq", "verify", env=environment(site_dsn)).returncode == 0


def test_a_command_can_be_called_from_code(pgq: DjangoPgQueuer) -> None:
    place.enqueue("one")
    told = io.StringIO()
    call_command("pgq", "jobs", "--json", stdout=told)
    assert place.name in told.getvalue()


@pytest.mark.parametrize(
    ("arguments", "settings", "entry", "code", "says"),
    [
        (["pgq_worker"], {}, SQLITE, 2, "has the engine django.db.backends.sqlite3: pgq-sync needs"),
        (["pgq_worker"], {}, ABSENT, 1, "/nonexistent"),
        (["pgq", "jobs"], {}, ABSENT, 1, "/nonexistent"),
        (["pgq_worker"], {"DATABASE": "nosuch"}, {}, 2, "an alias in DATABASES is accepted: default"),
        (["pgq_worker"], {"NOSUCH": 1}, {}, 2, "NOSUCH"),
        (["pgq_worker"], {"CONCURRENCY": "many"}, {}, 2, "many"),
        (["pgq_worker"], {"DSN": "dbname=x"}, {}, 2, "PGQ_SYNC['DSN']: the database is that of PGQ_SYNC['DATABASE']"),
        (["pgq_worker", "-e", "nosuch"], {}, {}, 2, "nosuch"),
        (["pgq_worker", "--dsn=dbname=x"], {}, {}, 1, "--dsn is told by the settings"),
        (["pgq", "install"], {}, {}, 1, "python manage.py migrate"),
        (["pgq", "nosuch"], {}, {}, 2, "nosuch"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(
    site_dsn: str, arguments: list[str], settings: dict[str, Any], entry: dict[str, Any], code: int, says: str
) -> None:
    done = manage(*arguments, env=environment(site_dsn, settings, **entry))
    assert says in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert done.returncode == code
    assert "Usage" in done.stderr or len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_a_missing_migration_names_the_command(server: str) -> None:
    with database(server, "template0") as empty:
        done = manage("pgq_worker", env=environment(empty))
    assert "run `python manage.py migrate`" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("module", "says"),
    [
        ("tests.django.site.without_the_app", 'INSTALLED_APPS lacks "pgq_sync.contrib.django"'),
        ("tests.django.site.without_database", "pgq-sync needs django.db.backends.postgresql"),
        ("", "DJANGO_SETTINGS_MODULE"),
    ],
)
def test_a_worker_without_what_it_needs_says_so(site_dsn: str, module: str, says: str) -> None:
    env = environment(site_dsn) | {"DJANGO_SETTINGS_MODULE": module}
    done = python("-m", "pgq_sync", "worker", "pgq_sync.contrib.django.worker:application", env=env)
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == 2


def test_the_system_checks_tell(site_dsn: str, server: str) -> None:
    def told(*arguments: str, settings: Any = None, dsn: str = site_dsn, entry: Any = None) -> str:
        return manage("check", *arguments, env=environment(dsn, settings, **(entry or {}))).stderr

    assert "pgq_sync" not in told()
    assert "pgq_sync.E001" in told(settings={"NOSUCH": 1})
    assert "pgq_sync.E002" in told(entry=SQLITE)
    assert "pgq_sync" not in told("--database=default")
    with database(server, "template0") as empty:
        assert "pgq_sync.W002" in told("--database=default", dsn=empty)


def test_jobs_in_processes_of_their_own_can_use_the_models(pgq: DjangoPgQueuer, site_dsn: str) -> None:
    job_id = pgq.enqueue("in a process", b"one")
    done = manage("pgq_worker", "--mode=drain", env=environment(site_dsn))
    assert "1 succeeded" in done.stderr, done.stderr
    assert pgq.result(job_id) == Order.objects.get(note="one").pk
