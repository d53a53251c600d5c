"""How the jobs of tasks are enqueued: with which options and keys, many at once, and in whose transaction."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from pgq_sync import (
    Context,
    DuplicateJob,
    Job,
    NewJob,
    PayloadTooLarge,
    PgQueuer,
    Settings,
)
from tests.entrypoints.support import record_of, results, send_receipt, with_all_kinds


@pytest.fixture
def application() -> PgQueuer:
    return PgQueuer.in_memory(settings=Settings())


def test_options_are_those_of_the_declaration_and_using_changes_them_for_some(either: PgQueuer) -> None:
    task = either.task("receipt", priority=3, dedupe_key="one", queue="mail", on_conflict="existing")(send_receipt)
    first, same = task.enqueue(1), task.enqueue(2)
    other = task.using(priority=5, dedupe_key=None, headers={"a": 1}, queue="urgent").enqueue(3)
    deferred = task.using(dedupe_key="two", execute_after=timedelta(hours=1)).enqueue(4)

    record = record_of(either, first)
    assert (record.priority, record.dedupe_key, record.queue) == (3, "one", "mail")
    assert same == first
    record = record_of(either, other)
    assert (record.priority, record.dedupe_key, record.queue, record.headers) == (5, None, "urgent", {"a": 1})
    assert record_of(either, deferred).execute_after - record_of(either, deferred).created_at > timedelta(minutes=59)


def test_what_a_conflict_brings(either: PgQueuer) -> None:
    task = either.task("receipt", dedupe_key="one")(send_receipt)
    first = task.enqueue(1)

    with pytest.raises(DuplicateJob, match="'one' is taken by job"):
        task.enqueue(2)
    assert task.using(on_conflict="skip").enqueue(2) is None
    assert task.using(on_conflict="existing").enqueue(2) == first
    assert task.using(on_conflict="replace").enqueue(2) == first
    assert task.using(on_conflict="skip").enqueue_many([(3,), (4,)]) == [None, None]
    assert results(either, first) == ["2"]


@pytest.mark.parametrize("until", ["finished", "started"])
def test_a_key_is_made_of_the_arguments_with_their_defaults(either: PgQueuer, until: Any) -> None:
    seen: list[dict[str, Any]] = []

    def key(order_id: int, **others: Any) -> str | None:
        seen.append(others)
        return f"receipt:{order_id}" if order_id else None

    task = either.task("receipt", dedupe_key=key, dedupe_until=until)(send_receipt)
    ids = [task.enqueue(7), *task.enqueue_many([(8,), ((9,), {"copy": True})]), task.enqueue(0)]

    assert [record_of(either, job_id).dedupe_key for job_id in ids] == ["receipt:7", "receipt:8", "receipt:9", None]
    assert seen == [{"copy": False}, {"copy": False}, {"copy": True}, {"copy": False}]
    with pytest.raises(DuplicateJob):
        task.enqueue(8)
    assert task.using(dedupe_key=lambda order_id, copy: f"other:{order_id}").enqueue(8)


def test_a_key_gets_arguments_of_every_kind_by_name(application: PgQueuer) -> None:
    task = application.task("all", dedupe_key=lambda **given: repr(given))(with_all_kinds)
    key = record_of(application, task.enqueue(1, 2, 3, 4, d=5, f=6)).dedupe_key
    assert key == repr({"a": 1, "b": 2, "c": 3, "rest": (4,), "d": 5, "e": 5, "others": {"f": 6}})


# Many at once


def test_many_calls_are_enqueued_in_their_order(either: PgQueuer) -> None:
    task = either.task("receipt")(send_receipt)
    ids = task.enqueue_many([(7,), ((8,), {"copy": True}), ((), {"order_id": 9})])
    assert results(either, *ids) == ["7", "8, copied", "9"]
    assert task.enqueue_many([]) == []


def test_a_tuple_and_a_dict_are_always_arguments_and_keywords(either: PgQueuer) -> None:
    def join(pair: tuple[int, ...], named: dict[str, int]) -> list[Any]:
        return [list(pair), named]

    task = either.task("join")(join)
    (job_id,) = task.enqueue_many([(((1, 2), {"a": 3}), {})])
    assert results(either, job_id) == [[[1, 2], {"a": 3}]]
    with pytest.raises(TypeError, match="got an unexpected keyword argument 'a'"):
        task.enqueue_many([((1, 2), {"a": 3})])


def test_an_item_whose_arguments_do_not_fit_is_named_by_its_index_and_nothing_is_enqueued(either: PgQueuer) -> None:
    task = either.task("receipt")(send_receipt)
    with pytest.raises(TypeError, match="item 2: task 'receipt': argument order_id"):
        task.enqueue_many([(1,), (2,), ("three",)])
    assert either.jobs.count() == {}


@pytest.mark.parametrize("wrong", [7, "7", [7], {"order_id": 7}, None])
def test_an_item_that_is_no_tuple_is_named_by_its_index_and_nothing_is_enqueued(either: PgQueuer, wrong: Any) -> None:
    task = either.task("receipt")(send_receipt)
    with pytest.raises(TypeError, match=r"task 'receipt': item 2 is .*: a tuple of the arguments is accepted"):
        task.enqueue_many([(1,), (2,), wrong, (3,)])
    assert either.jobs.count() == {}


def test_what_is_no_iterable_is_refused(application: PgQueuer) -> None:
    with pytest.raises(TypeError, match="task 'receipt': calls=7 must be an iterable of tuples, not int"):
        application.task("receipt")(send_receipt).enqueue_many(7)  # type: ignore[arg-type]


def test_an_iterator_is_consumed_in_slices_and_all_or_nothing_is_enqueued(either: PgQueuer) -> None:
    task = either.task("receipt")(send_receipt)
    taken = itertools.count()

    def calls(failing: int) -> Iterator[tuple[Any, ...]]:
        for number in range(12_000):
            next(taken)
            yield ("seven",) if number == failing else (number,)

    with pytest.raises(TypeError, match="argument order_id: Expected `int`, got `str`"):
        task.enqueue_many(calls(failing=5))
    assert next(taken) == 6
    with pytest.raises(TypeError, match="argument order_id: Expected `int`, got `str`"):
        task.enqueue_many(calls(failing=11_000))
    assert either.jobs.count() == {}
    assert len(set(task.enqueue_many(calls(failing=-1)))) == 12_000


# In whose transaction


def test_a_job_on_the_callers_connection_shares_the_fate_of_its_transaction(pgq: PgQueuer, dsn: str) -> None:
    task = pgq.task("receipt")(send_receipt)
    with psycopg.connect(dsn) as connection:
        task.using(connection=connection).enqueue(1)
        task.using(connection=connection).enqueue_many([(2,), (3,)])
        connection.rollback()
        assert pgq.jobs.count() == {}
        kept = task.using(connection=connection).enqueue(4)
        assert pgq.jobs.count() == {}
        connection.commit()
    assert pgq.jobs.count() == {("receipt", "queued"): 1}
    assert results(pgq, kept) == ["4"]


def test_no_connection_is_none_of_pgqs_own(pgq: PgQueuer) -> None:
    with pytest.raises(TypeError, match="NoneType"):
        pgq.task("receipt")(send_receipt).using(connection=None).enqueue(1)
    assert pgq.jobs.count() == {}


def test_no_context_is_none_of_pgqs_own(either: PgQueuer) -> None:
    absent: Any = None
    with pytest.raises(TypeError, match="task 'receipt': context=None must be the Context that a handler gets"):
        either.task("receipt")(send_receipt).using(context=absent).enqueue(1)
    assert either.jobs.count() == {}


@pytest.mark.parametrize("fails", [True, False])
def test_children_join_the_transaction_of_the_handler(pgq: PgQueuer, fails: bool) -> None:
    child = pgq.task("child")(send_receipt)

    @pgq.task("parent", transactional=True)
    def parent(context: Context, fails: bool) -> None:
        child.using(context=context).enqueue(1)
        child.using(context=context, priority=2).enqueue_many([(2,), (3,)])
        context.enqueue(child.name, child.payload(4))
        context.enqueue_many([NewJob(entrypoint=child.name, payload=child.payload(5))])
        if fails:
            raise ValueError("no")

    parent.enqueue(fails)
    expected = {("parent", "failed"): 1} if fails else {("parent", "succeeded"): 1, ("child", "succeeded"): 5}
    pgq.drain()
    assert pgq.jobs.count() == expected


def test_children_of_any_job_are_enqueued_by_its_context(either: PgQueuer) -> None:
    child = either.task("child")(send_receipt)
    parent = either.task("parent")(lambda order_id: None)

    @either.entrypoint("plain")
    def plain(job: Job, context: Context) -> None:
        child.using(context=context).enqueue(1)
        parent.enqueue(2)

    either.enqueue("plain")
    assert either.drain().counts == {"succeeded": 3}


def test_max_payload_holds_for_arguments(either: PgQueuer) -> None:
    task = either.task("text")(lambda text: len(text))
    with pytest.raises(PayloadTooLarge, match="1,048,5"):
        task.enqueue("x" * 1024 * 1024)
    with pytest.raises(PayloadTooLarge):
        task.enqueue_many([("x",), ("x" * 1024 * 1024,)])
    assert either.jobs.count() == {}
