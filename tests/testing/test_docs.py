"""docs/testing.md: its examples are run as the tests of a project, section by section."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "testing.md").read_text()
APPLICATION = """
from datetime import timedelta
from pgq_sync import Context, DatabaseRetry, Job, PgQueuer, Schedule
"""
TESTS = """
from datetime import datetime, timedelta, timezone
import django.test, pytest
from pgq_sync import testing
from shop.jobs import archive, check_out, pgq, send_receipt

class FakeMail:
    def send(self, payload): pass

class BrokenMail:
    def send(self, payload): raise ConnectionError

@pytest.fixture(autouse=True)
def _own_resources():
    pgq.resources.clear()
    pgq.resources["mail"] = FakeMail()
"""
CONFTEST = """
import django, pytest, sqlalchemy
from django.conf import settings
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy.orm import Session
from pgq_sync.testing.databases import database

@pytest.fixture(scope="session", autouse=True)
def database_of_django(pgq_dsn, pgq_template):
    with database(pgq_dsn, pgq_template) as dsn:
        given = conninfo_to_dict(dsn)
        names = {"NAME": "dbname", "USER": "user", "PASSWORD": "password", "HOST": "host", "PORT": "port"}
        entry = {key: str(given.get(name) or "") for key, name in names.items()}
        settings.configure(DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", **entry}}, USE_TZ=True)
        django.setup()
        yield
        django.db.connections.close_all()

@pytest.fixture
def session(pgq_database):
    engine = sqlalchemy.create_engine("postgresql+psycopg://", creator=lambda: __import__("psycopg").connect(pgq_database))
    with Session(engine) as session:
        yield session
    engine.dispose()
"""


def examples(*sections: str) -> str:
    """The Python of these sections of the page; "" is what stands before the first."""
    parts = re.split(r"^## (.*)$", "## \n" + PAGE.removeprefix("# Testing"), flags=re.MULTILINE)[1:]
    texts = dict(zip(parts[::2], parts[1::2], strict=True))
    return "\n".join(block for name in sections for block in re.findall(r"```python\n(.*?)```", texts[name], re.DOTALL))


@pytest.mark.parametrize(
    ("sections", "passed"),
    [(["In memory", "The clock"], 4), (["Inside an open transaction", "Fixtures"], 3)],
    ids=["memory", "database"],
)
def test_the_examples_work(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, server: str, sections: list[str], passed: int
) -> None:
    monkeypatch.setenv("PGQ_TEST_DSN", server)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{pytester.path}")
    (pytester.mkpydir("shop") / "jobs.py").write_text(APPLICATION + examples(""))
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(TESTS + examples(*sections))
    monkeypatch.setenv("PGQ_DSN", "host=/nonexistent")  # of production, which no test may reach
    result = pytester.runpytest_subprocess("-p", "pgq_sync.testing.fixtures")
    result.assert_outcomes(passed=passed)
