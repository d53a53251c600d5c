"""Comparing an installed schema with what a fresh install makes."""

from __future__ import annotations

from typing import Any

import pytest

from pgq_sync import PgQueuer, Settings
from tests.storage.support import query

CHANGES: dict[str, tuple[str, str]] = {
    "missing: index pgq_job_ready": ("drop index pgq_job_ready", "index pgq_job_ready"),
    "missing: trigger": ("drop trigger pgq_job_announce on pgq_job", "trigger pgq_job.pgq_job_announce"),
    "missing: column": ("alter table pgq_worker drop column slots", "column pgq_worker.slots"),
    "missing: table": ("drop table pgq_watch", "table pgq_watch"),
    "missing: function": ("drop function pgq_enqueue", "function pgq_enqueue("),
    "missing: constraint": (
        "alter table pgq_job drop constraint pgq_job_check",
        "constraint pgq_job.pgq_job_check",
    ),
    "unexpected: column": ("alter table pgq_job add column extra int", "column pgq_job.extra"),
    "unexpected: table": ("create table pgq_extra (id int)", "table pgq_extra"),
    "unexpected: index": ("create index pgq_extra on pgq_job (attempt)", "index pgq_extra"),
    "different: function": (
        "create or replace function pgq_announce(number bigint, count bigint, queues text[], entrypoints text[], "
        "priorities smallint[], due timestamptz[], now timestamptz default null) returns void language plpgsql as 'begin end'",
        "function pgq_announce(",
    ),
    "different: default": ("alter table pgq_job alter column priority set default 5", "column pgq_job.priority"),
    "different: type": ("alter table pgq_job alter column attempt type bigint", "column pgq_job.attempt"),
    "different: not null": ("alter table pgq_job alter column attempt drop not null", "column pgq_job.attempt"),
    "different: index": (
        "drop index pgq_job_running; create index pgq_job_running on pgq_job (worker_id) where status = 'running'",
        "index pgq_job_running",
    ),
    "different: disabled trigger": ("alter table pgq_job disable trigger pgq_job_announce", "trigger pgq_job.pgq_job_announce"),
    "different: invalid index": (
        "update pg_index set indisvalid = false where indexrelid = 'pgq_job_ready'::regclass",
        "index pgq_job_ready",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_each_difference_is_named(pgq: PgQueuer, dsn: str, change: str) -> None:
    sql, name = CHANGES[change]
    kind = change.partition(":")[0]

    query(dsn, sql)
    differences = pgq.schema.verify()

    named = [line for line in differences if line.startswith(f"{kind}: {name}")]
    assert len(named) == 1, differences


@pytest.mark.parametrize("change", ["different: function", "different: default", "different: index"])
def test_each_difference_is_one_line(pgq: PgQueuer, dsn: str, change: str) -> None:
    query(dsn, CHANGES[change][0])

    assert [line for line in pgq.schema.verify() if len(line.splitlines()) != 1] == []


def test_several_differences_are_all_named(pgq: PgQueuer, dsn: str) -> None:
    query(dsn, "drop index pgq_job_ready; alter table pgq_job add column extra int, alter column priority set default 5")

    found = [line.splitlines()[0] for line in pgq.schema.verify()]

    for start in ("missing: index pgq_job_ready", "unexpected: column pgq_job.extra", "different: column pgq_job.priority"):
        assert [line for line in found if line.startswith(start)]
    assert len(found) == 3


def _schemas(dsn: str) -> list[tuple[Any, ...]]:
    return query(dsn, "select nspname::text from pg_namespace where nspname !~ '^pg_(toast_)?temp' order by 1")


def _tables(dsn: str) -> list[tuple[Any, ...]]:
    return query(dsn, "select oid, relname, relfilenode from pg_class where relnamespace = 'public'::regnamespace order by 1")


def test_verify_changes_nothing(pgq: PgQueuer, dsn: str) -> None:
    before = _schemas(dsn), _tables(dsn)

    assert pgq.schema.verify() == []

    assert (_schemas(dsn), _tables(dsn)) == before


def test_installations_in_one_schema_know_nothing_of_each_other(empty_dsn: str) -> None:
    with (
        PgQueuer.from_dsn(empty_dsn, settings=Settings()) as ours,
        PgQueuer.from_dsn(empty_dsn, settings=Settings(prefix="pgq_too_")) as theirs,
    ):
        ours.schema.install()
        theirs.schema.install()
        theirs.enqueue("work")
        assert ours.jobs.count() == {}
        assert theirs.schema.verify() == []
        assert ours.schema.verify() == []
        ours.schema.uninstall()
        assert theirs.schema.verify() == []
        assert theirs.jobs.count() == {("work", "queued"): 1}
