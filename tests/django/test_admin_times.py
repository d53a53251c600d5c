"""How long the database works for each list of the admin, over a million finished jobs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, connections

from pgq_sync.contrib.django import pgq as application
from pgq_sync.testing.databases import create_database, drop_database
from tests.django.clients import client, listing, page, text
from tests.django.conftest import point_to
from tests.django.filling import fill
from tests.django.test_admin_plans import LISTS

MOST = 0.3  # seconds of all statements of a page together


@pytest.fixture(scope="module")
def million(server: str, site_template: str) -> Iterator[str]:
    """A database with a million finished jobs and 100,000 unfinished ones."""
    dsn = create_database(server, site_template)
    fill(dsn, jobs=100_000, history=1_000_000)
    yield dsn
    drop_database(server, dsn)


@pytest.mark.alone
@pytest.mark.timeout(300)
def test_each_page_takes_less_than_its_share(million: str, capsys: pytest.CaptureFixture[str]) -> None:
    point_to(million)
    application.forget_settings()
    browser = client()
    addresses: dict[str, tuple[str, dict[str, str]]] = {name: (listing(model), asked) for name, (model, asked) in LISTS.items()}
    addresses |= {"an unfinished job": (page("unfinishedjob", 5_000), {}), "a finished job": (page("finishedjob", 1_500_000), {})}
    taken = {name: min(_seconds(browser, *where) for _ in range(3)) for name, where in addresses.items()}
    application.close()
    connections.close_all()
    with capsys.disabled():
        for name, seconds in taken.items():
            print(f"\n{name:40} {seconds * 1000:7.1f} ms", end="")  # noqa: T201  what the test is for
    assert {name: seconds for name, seconds in taken.items() if seconds > MOST} == {}


def _seconds(browser: Any, address: str, asked: dict[str, str]) -> float:
    """What the statements of a page take, seen from here."""
    spent = 0.0

    def clocked(execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        nonlocal spent
        began = time.perf_counter()
        try:
            return execute(sql, params, many, context)
        finally:
            spent += time.perf_counter() - began

    with connection.execute_wrapper(clocked):
        text(browser.get(address, asked))
    return spent
