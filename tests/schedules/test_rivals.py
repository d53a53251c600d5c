"""Two who change the same schedules at once: one waits for the other, and neither fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pytest

from pgq_sync import PgQueuer, Schedule, Settings
from pgq_sync.engine.limits import LocalLimits
from tests.storage.support import POLL_INTERVAL, query, waiting, worker
from tests.waiting import PATIENCE, wait_until

OLD = ("1 * * * *", "2 * * * *", "3 * * * *")
WAITING = "from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
GATE = """
    create function gate() returns trigger language plpgsql as
    $$ begin perform pg_advisory_xact_lock_shared(4711); return coalesce(new, old); end $$
"""


@contextmanager
def at_the_first_row(dsn: str, *rivals: Callable[[], object], when: str = "after insert or update or delete") -> Iterator[None]:
    """Has rivals begin in this order, and go on only once each of them has changed a row, or waits for another one."""
    with closing(psycopg.connect(dsn, autocommit=True)) as keeper, ThreadPoolExecutor(len(rivals)) as threads:
        keeper.execute(GATE)
        keeper.execute(f"create trigger gate {when} on pgq_schedule for each row execute function gate()".encode())
        keeper.execute("select pg_advisory_lock(4711)")
        doing = []
        for rival in rivals:
            doing.append(threads.submit(rival))
            wait_until(lambda: waiting(dsn) == len(doing))
        keeper.execute("select pg_advisory_unlock(4711)")
        for each in doing:
            each.result(PATIENCE)
        yield
        keeper.execute("drop function gate() cascade")


def version(dsn: str, *expressions: str, clean_old: bool = True, **options: Any) -> PgQueuer:
    pgq = PgQueuer.from_dsn(dsn, settings=Settings())
    for expression in expressions:
        pgq.schedule("cleanup", expression, clean_old=clean_old, **options)(nothing)
    return pgq


def nothing(schedule: Schedule) -> None: ...


def declare(pgq: PgQueuer) -> None:
    pgq.store.schedules.declare(pgq.registry.schedules())


def test_workers_of_two_versions_that_clean_up_start_at_once(dsn: str) -> None:
    with version(dsn, *OLD) as before, version(dsn, OLD[0]) as one, version(dsn, *OLD[1:]) as another:
        declare(before)
        with at_the_first_row(dsn, lambda: declare(one), lambda: declare(another)):
            left = [row[0] for row in query(dsn, "select expression from pgq_schedule order by expression")]

    assert left in ([OLD[0]], list(OLD[1:]))


def test_a_version_that_cleans_up_and_one_that_does_not_start_at_once(dsn: str) -> None:
    with version(dsn, OLD[2]) as before, version(dsn, *OLD[1:]) as one:
        declare(before)
        with (
            version(dsn, *OLD[1:], clean_old=False, priority=1) as another,
            at_the_first_row(dsn, lambda: declare(another), lambda: declare(one)),
        ):
            left = [row[0] for row in query(dsn, "select expression from pgq_schedule order by expression")]

    assert left == list(OLD[1:])


@pytest.mark.parametrize("clean_old", [True, False])
def test_a_worker_whose_schedules_are_known_waits_for_no_operator(dsn: str, clean_old: bool) -> None:
    with version(dsn, *OLD, clean_old=clean_old) as pgq, psycopg.connect(dsn) as operator:
        declare(pgq)
        pgq.on(operator).schedules.pause("cleanup")
        with ThreadPoolExecutor(1) as threads:
            starting = threads.submit(declare, pgq)
            try:
                starting.result(PATIENCE)
            finally:
                operator.commit()


@pytest.mark.parametrize("action", ["pause", "remove"])
def test_an_operator_changes_several_while_a_version_cleans_up(dsn: str, action: str) -> None:
    with version(dsn, OLD[0]) as new, psycopg.connect(dsn, autocommit=True) as operator:
        operator.execute("set enable_indexscan to off")  # what the planner likes to do depends on the table's size
        book = new.on(operator).schedules
        for expression in reversed(OLD):  # so that the rows lie in another order than that of their expressions
            book.add("cleanup", expression)
        act = getattr(book, action)
        with at_the_first_row(dsn, lambda: act("cleanup"), lambda: declare(new), when="before update or delete"):
            left = [row[0] for row in query(dsn, "select expression from pgq_schedule")]

    assert left == [OLD[0]]


def test_who_loses_the_connection_in_the_midst_is_told_how(pgq: PgQueuer, dsn: str) -> None:
    with psycopg.connect(dsn) as operator, ThreadPoolExecutor(1) as threads:
        pgq.on(operator).schedules.add("cleanup", "@daily")
        adding = threads.submit(pgq.schedules.add, "cleanup", "@daily")
        wait_until(lambda: waiting(dsn) == 1)
        query(dsn, f"select pg_terminate_backend(pid) {WAITING}")
        with pytest.raises(psycopg.errors.AdminShutdown):
            adding.result(PATIENCE)


def test_in_memory_a_schedule_that_is_removed_at_once_was_added_all_the_same() -> None:
    pgq = PgQueuer.in_memory(settings=Settings())

    def remove() -> None:
        if pgq.schedules.list():
            pgq.schedules.remove("cleanup")

    with pgq.store.claimer(worker("cleanup"), POLL_INTERVAL, LocalLimits({}), lambda: None, remove):
        assert pgq.schedules.add("cleanup", "@daily").name == "cleanup"
    assert pgq.schedules.list() == []
