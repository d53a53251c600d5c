"""What the tests of a transaction's own jobs share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pgq_sync import PgQueuer, Settings
from tests.storage.links import DRIVERS, KINDS, Link, linked
from tests.storage.support import query

ROWS = "select (select count(*) from pgq_job), (select count(*) from pgq_history), (select count(*) from pgq_schedule)"


@pytest.fixture(params=KINDS)
def link(request: pytest.FixtureRequest, dsn: str) -> Iterator[Link]:
    with linked(request.param, dsn, autocommit=False) as link:
        yield link


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest, dsn: str) -> Iterator[Link]:
    """One per driver and framework, with a table for what handlers do."""
    query(dsn, "create table effect (job_id bigint unique)")
    with linked(request.param, dsn, autocommit=False) as link:
        yield link


@pytest.fixture
def blind(dsn: str) -> Iterator[PgQueuer]:
    """An application that could not reach its database by itself."""
    with PgQueuer.from_dsn("host=/nonexistent", settings=Settings()) as application:
        yield application
