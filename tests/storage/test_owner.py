"""Whoever owns the tables need not be a superuser, and the function with the owner's rights serves nobody else's ends."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import psycopg
import pytest

from pgq_sync import PgQueuer, Settings
from tests.storage.roles import FORBIDDEN, Role, days, login
from tests.storage.support import query

TRAPS: dict[str, Callable[[Role], str]] = {
    "a table": lambda role: f"create temp table {role.names.prefix}history (id int) partition by range (id)",
    "a setting": lambda role: f"create temp table {role.names.prefix}version (durability text)",
    "a function": lambda role: "create function pg_temp.format(text, text) returns text language sql as $$ select 'x' $$",
}


@pytest.mark.parametrize("trap", TRAPS)
def test_the_function_with_the_owners_rights_uses_only_what_is_the_owners(runner: Role, trap: str) -> None:
    with closing(psycopg.connect(runner.dsn, autocommit=True)) as connection:
        connection.execute(TRAPS[trap](runner).encode())
        connection.execute("set search_path to pg_temp, public")
        function = f"{runner.names.schema_dot or 'public.'}{runner.names.prefix}maintain"
        made = connection.execute(f"select made from {function}('2040-01-10 12:00+00')".encode()).fetchall()

    assert made == [(9,)]
    assert days(runner)[-9:] == [f"204001{day:02}" for day in range(9, 18)]


def test_the_function_with_the_owners_rights_runs_nothing_that_others_may_have_written(runner: Role) -> None:
    # As everybody may in the schema public of PostgreSQL 14.
    schema = runner.names.schema_dot or "public."
    query(runner.owner, f"grant create on schema {schema.rstrip('.')} to public")
    body = "begin raise exception 'runs as %', current_user; end"
    query(runner.dsn, f"create function {schema}format(text, text) returns text language plpgsql as $$ {body} $$")

    assert query(runner.dsn, f"select made from {runner.table('maintain')}('2040-01-10 12:00+00')") == [(9,)]


def test_the_function_with_the_owners_rights_is_not_for_everybody(dsn: str) -> None:
    with login(dsn, "stranger") as (_, stranger), pytest.raises(FORBIDDEN):
        query(stranger, "select pgq_maintain()")


def test_an_owner_who_is_no_superuser_can_do_it_all(empty_dsn: str, place: Settings) -> None:
    with login(empty_dsn, "owner") as (name, owner):
        query(
            empty_dsn, f'grant create on database {_database(empty_dsn)} to "{name}"; grant create on schema public to "{name}"'
        )
        with PgQueuer.from_dsn(owner, settings=place) as pgq:
            pgq.entrypoint("work")(lambda job: None)
            pgq.schema.install()
            assert pgq.schema.verify() == []
            pgq.enqueue("work", dedupe_key="k")
            assert pgq.drain().counts == {"succeeded": 1}
            assert pgq.schema.durability("balanced") == "balanced"
            pgq.schema.autovac(rollback=True)
            pgq.schema.uninstall()


def _database(dsn: str) -> str:
    return str(query(dsn, "select quote_ident(current_database())")[0][0])
