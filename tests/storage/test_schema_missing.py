"""What is said where the tables are missing: which ones were looked for, and the command that makes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from pgq_sync import NewJob, PgQueuer, SchemaError, Settings
from tests.storage.support import query


def application(dsn: str) -> PgQueuer:
    return PgQueuer.from_dsn(dsn, settings=Settings())


@pytest.mark.parametrize(
    "call",
    [
        lambda pgq: pgq.enqueue("work"),
        lambda pgq: pgq.enqueue("work", dedupe_key="k"),
        lambda pgq: pgq.enqueue_many([NewJob(entrypoint="work"), NewJob(entrypoint="work")]),
        lambda pgq: pgq.jobs.count(),
        lambda pgq: pgq.jobs.requeue([1]),
        lambda pgq: pgq.limits.list(),
        lambda pgq: pgq.limits.pause("work"),
        lambda pgq: pgq.store.workers(),
        lambda pgq: pgq.drain(),
        lambda pgq: pgq.schema.verify(),
    ],
)
@pytest.mark.parametrize(
    ("settings", "place", "command"),
    [
        (Settings(prefix="my_"), "the search_path", "`pgq-sync install --prefix my_`"),
        (Settings(schema="my shop"), "schema 'my shop'", "`pgq-sync install --schema 'my shop'`"),
    ],
)
def test_whatever_needs_a_schema_tells_where_it_was_looked_for(
    dsn: str, settings: Settings, place: str, command: str, call: Callable[[PgQueuer], Any]
) -> None:
    with PgQueuer.from_dsn(dsn, settings=settings) as pgq:
        pgq.entrypoint("work")(lambda job: None)
        with pytest.raises(SchemaError) as caught:
            call(pgq)
    assert settings.prefix in str(caught.value)
    assert f"in {place}" in str(caught.value)
    assert str(caught.value).endswith(f": run {command}")


def test_on_the_callers_connection_the_drivers_error_is_kept_as_the_cause(empty_dsn: str) -> None:
    with application(empty_dsn) as pgq, psycopg.connect(empty_dsn) as connection:
        with pytest.raises(SchemaError, match=r'^relation "pgq_job" does not exist, .*: run `pgq-sync install`$') as caught:
            pgq.on(connection).enqueue("work")
        assert isinstance(caught.value.__cause__, psycopg.errors.UndefinedTable)


def test_what_a_trigger_misses_is_not_taken_for_a_missing_schema(dsn: str) -> None:
    query(dsn, "create function audit() returns trigger language plpgsql as $$ begin insert into elsewhere values (1); end $$")
    query(dsn, "create trigger audit before insert on pgq_job for each row execute function audit()")
    with application(dsn) as pgq, pytest.raises(psycopg.errors.UndefinedTable, match="elsewhere"):
        pgq.enqueue("work")
