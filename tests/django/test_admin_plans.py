"""However long history is, no list of the admin reads much of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from pgq_sync.contrib.django import DjangoPgQueuer
from pgq_sync.contrib.django.admin.looking import WINDOW
from pgq_sync.testing.databases import create_database, drop_database
from tests.django.clients import client, listing, page, text
from tests.django.conftest import application_on
from tests.django.filling import fill

HISTORY = 120_000
DAYS = 8
JOBS = 60_000
LISTS: dict[str, tuple[str, dict[str, str]]] = {
    "unfinished": ("unfinishedjob", {}),
    "unfinished, a later page": ("unfinishedjob", {"p": "9"}),
    "queued": ("unfinishedjob", {"status": "queued"}),
    "running": ("unfinishedjob", {"status": "running"}),
    "held": ("unfinishedjob", {"status": "held"}),
    "unfinished, one entrypoint": ("unfinishedjob", {"entrypoint": "entry7"}),
    "unfinished, an entrypoint without jobs": ("unfinishedjob", {"entrypoint": "none"}),
    "unfinished, one queue": ("unfinishedjob", {"queue": "queue1"}),
    "unfinished, by id": ("unfinishedjob", {"q": "5000"}),
    "unfinished, by dedupe key": ("unfinishedjob", {"q": "key5000"}),
    "unfinished, by an unknown word": ("unfinishedjob", {"q": "nothing"}),
    "history": ("finishedjob", {}),
    "history, a later page": ("finishedjob", {"p": "9"}),
    "succeeded": ("finishedjob", {"status": "succeeded"}),
    "failed": ("finishedjob", {"status": "failed"}),
    "cancelled": ("finishedjob", {"status": "cancelled"}),
    "deleted, of which there are none": ("finishedjob", {"status": "deleted"}),
    "failed, one entrypoint": ("finishedjob", {"status": "failed", "entrypoint": "entry10"}),
    "failed, an entrypoint without jobs": ("finishedjob", {"status": "failed", "entrypoint": "none"}),
    "history, one entrypoint": ("finishedjob", {"entrypoint": "entry7"}),
    "history, an entrypoint without jobs": ("finishedjob", {"entrypoint": "none"}),
    "history, one queue": ("finishedjob", {"queue": "queue1"}),
    "history, before a job": ("finishedjob", {"before": "1050000"}),
    "history, by id": ("finishedjob", {"q": "1005000"}),
    "history, by dedupe key": ("finishedjob", {"q": "old1119995"}),
    "history, by an unknown word": ("finishedjob", {"q": "nothing"}),
    "workers": ("worker", {}),
    "schedules": ("schedule", {}),
}


@pytest.fixture(scope="module")
def many(server: str, site_template: str) -> Iterator[str]:
    """A database with many jobs; its rows are only read."""
    dsn = create_database(server, site_template)
    fill(dsn, jobs=JOBS, history=HISTORY, days=DAYS)
    yield dsn
    drop_database(server, dsn)


@pytest.fixture
def full(many: str) -> Iterator[DjangoPgQueuer]:
    """The site's application on it."""
    with application_on(many) as pgq:
        yield pgq


def queries(browser: Client, address: str, asked: dict[str, str]) -> list[str]:
    """The statements about our tables that a page takes."""
    with CaptureQueriesContext(connection) as captured:
        text(browser.get(address, asked))
    return [each["sql"] for each in captured if '"pgq_' in each["sql"] and each["sql"].lower().startswith("select")]


def read(node: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """The tables that a plan reads, with the rows that they have read, those that they threw away too."""
    rows = (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
    yield node.get("Relation Name", ""), rows
    for below in node.get("Plans", ()):
        yield from read(below)


@pytest.mark.parametrize("name", LISTS)
def test_a_list_reads_no_more_than_its_latest_jobs(name: str, full: DjangoPgQueuer) -> None:
    model, asked = LISTS[name]
    browser = client()
    for sql in queries(browser, listing(model), asked):
        with connection.cursor() as cursor:
            cursor.execute("explain (analyze, format json) " + sql)
            found = cursor.fetchone()[0]
        plan = (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]
        nodes = [each for each in read(plan) if each[0].startswith(("pgq_job", "pgq_history"))]
        # A day's partition that is smaller than what is looked through may be read from end to end.
        assert sum(rows for _, rows in nodes) <= WINDOW + HISTORY // DAYS, (sql, plan)


@pytest.mark.parametrize("model", ["unfinishedjob", "finishedjob"])
def test_nothing_counts_all_of_a_table(model: str, full: DjangoPgQueuer) -> None:
    for sql in queries(client(), listing(model), {}):
        assert "COUNT(" not in sql or "LIMIT 1001" in sql, sql


def test_what_lies_further_back_is_a_link_away(full: DjangoPgQueuer) -> None:
    browser = client()
    first = text(browser.get(listing("finishedjob")))
    assert "Look further back" in first
    assert "More than 1,000 jobs match" in first
    further = f"before={1_000_000 + HISTORY - WINDOW + 1}"
    assert further in first
    second = text(browser.get(f"{listing('finishedjob')}?{further}"))
    assert page("finishedjob", 1_000_000 + HISTORY - WINDOW) in second
    assert page("finishedjob", 1_000_000 + HISTORY) not in second
