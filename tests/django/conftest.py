"""A Django site in this process; for each test a database of its own with the site's tables."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from pgq_sync.testing.databases import create_database, drop_database
from tests.django.site.start import database_entry, start

start()

from pgq_sync.contrib.django import DjangoPgQueuer  # noqa: E402  Django has to be set up first
from pgq_sync.contrib.django import pgq as application  # noqa: E402


def point_to(dsn: str, **options: Any) -> None:
    """Has the alias "default" mean this database, for every thread that has not used it yet."""
    from django.db import connections
    from django.db.utils import ConnectionHandler

    connections["default"].close()
    connections.settings["default"] = ConnectionHandler({"default": database_entry(dsn) | options}).settings["default"]
    del connections["default"]


@pytest.fixture(scope="session")
def site_template(server: str) -> Iterator[str]:
    """The name of a database in which `migrate` has been run."""
    from django.core.management import call_command
    from django.db import connections
    from psycopg.conninfo import conninfo_to_dict

    dsn = create_database(server, "template0")
    point_to(dsn)
    call_command("migrate", verbosity=0)
    connections["default"].close()
    yield str(conninfo_to_dict(dsn)["dbname"])
    drop_database(server, dsn)


@pytest.fixture
def site_dsn(server: str, site_template: str) -> Iterator[str]:
    """A database of this test's own, with the site's tables."""
    dsn = create_database(server, site_template)
    yield dsn
    drop_database(server, dsn)


@pytest.fixture
def pgq(site_dsn: str) -> Iterator[DjangoPgQueuer]:
    """The site's application, on that database."""
    with application_on(site_dsn) as pgq:
        yield pgq


@contextmanager
def application_on(dsn: str) -> Iterator[DjangoPgQueuer]:
    """The site's application, on a database; nothing of it stays open."""
    from django.db import connections

    point_to(dsn)
    application.forget_settings()
    yield application
    application.close()
    connections.close_all()
