"""Which transaction it is: a connection's for a block, the PgQueuer's own, or none that could be used."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import psycopg
import pytest

from pgq_sync import ConfigError, Context, Job, PgQueuer, Settings, testing
from pgq_sync.storage.names import Names
from tests.storage.links import Link
from tests.storage.support import query
from tests.testing.conftest import ROWS


def test_within_the_block_all_of_the_application_is_in_the_transaction(blind: PgQueuer, dsn: str, driver: Link) -> None:
    """What a function under test enqueues by itself, and what a handler does."""

    @blind.entrypoint("work")
    def work(job: Job) -> None:
        blind.enqueue("other", dedupe_key="one")
        assert blind.enqueue("other", dedupe_key="one", on_conflict="skip") is None

    with testing.on_connection(blind, driver.given):
        blind.enqueue("work")
        testing.assert_enqueued(blind, "work")
        testing.drain(blind)
        other = testing.assert_enqueued(blind, "other")
        assert blind.jobs.cancel([other.id]).ended == [other.id]
        with pytest.raises(ConfigError, match=r"has room for no worker: use pgq_sync\.testing\.drain"):
            blind.drain()
    testing.assert_not_enqueued(blind, "other", connection=driver.given)
    assert query(dsn, ROWS) == [(0, 0, 0)]
    driver.rollback()


def test_an_application_on_the_callers_connection_is_in_its_transaction_anyway(dsn: str) -> None:
    with closing(psycopg.connect(dsn)) as connection:
        pgq = PgQueuer.from_psycopg_connection(connection, settings=Settings())

        @pgq.entrypoint("work", transactional=True)
        def work(job: Job, context: Context) -> None:
            assert context.connection is connection

        pgq.enqueue("work")
        assert testing.drain(pgq).counts == {"succeeded": 1}
        testing.assert_not_enqueued(pgq, "work")
        connection.rollback()
    assert query(dsn, ROWS) == [(0, 0, 0)]


def test_on_its_connection_in_autocommit_it_commits(dsn: str) -> None:
    with closing(psycopg.connect(dsn, autocommit=True)) as connection:
        pgq = PgQueuer.from_psycopg_connection(connection, settings=Settings())
        pgq.entrypoint("work")(lambda job: None)
        pgq.enqueue("work")
        assert testing.drain(pgq).counts == {"succeeded": 1}
        pgq.close()
    assert query(dsn, ROWS) == [(0, 1, 0)]


def _closed(dsn: str) -> psycopg.Connection[Any]:
    connection = psycopg.connect(dsn)
    connection.close()
    return connection


@pytest.mark.parametrize(
    ("make", "error", "complaint"),
    [
        (lambda dsn: object(), TypeError, "no connection that pgq-sync knows"),
        (_closed, ConnectionError, "is closed"),
        (lambda dsn: psycopg.connect(dsn, autocommit=True), ValueError, "in autocommit, and has no transaction to work in"),
    ],
)
def test_a_connection_that_cannot_be_used_is_refused_at_once(
    blind: PgQueuer, dsn: str, make: Callable[[str], Any], error: type[Exception], complaint: str
) -> None:
    blind.entrypoint("work")(lambda job: None)
    connection = make(dsn)
    before = blind.backend
    for call in (testing.drain, testing.tick, testing.enqueued):
        if call is testing.tick:
            blind.schedule("report", "@daily")(lambda schedule: None)
        with pytest.raises(error, match=complaint):
            call(blind, connection=connection)
    assert blind.backend is before
    if isinstance(connection, psycopg.Connection):
        connection.close()


def test_in_memory_a_connection_changes_nothing(dsn: str) -> None:
    pgq = PgQueuer.in_memory()
    pgq.entrypoint("work")(lambda job: None)
    pgq.enqueue("work")
    assert testing.drain(pgq, connection=object()).counts == {"succeeded": 1}


def test_a_prefix_and_a_schema_are_obeyed(empty_dsn: str) -> None:
    settings = Settings(prefix="our_", schema="Our Jobs")
    with PgQueuer.from_dsn(empty_dsn, settings=settings) as pgq, closing(psycopg.connect(empty_dsn)) as connection:
        pgq.schema.install()
        pgq.entrypoint("work")(lambda job: None)
        pgq.on(connection).enqueue("work")
        assert testing.drain(pgq, connection=connection).counts == {"succeeded": 1}
        count = connection.execute(f"select count(*) from {Names('our_', 'Our Jobs').qualified('history')}".encode()).fetchone()
        assert count == (1,)
