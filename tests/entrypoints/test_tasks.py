"""Tasks: functions whose jobs carry their arguments, how they are enqueued, and what they are besides."""

from __future__ import annotations

import functools
import inspect
import itertools
import pickle
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from types import ModuleType, SimpleNamespace
from typing import Any

import psycopg
import pytest

from pgq_sync import (
    AbstractEntrypointExecutor,
    Context,
    ContextTask,
    DatabaseRetry,
    DuplicateJob,
    EntrypointExecutor,
    Job,
    NewJob,
    PayloadTooLarge,
    PgQueuer,
    Settings,
    Task,
)
from tests.entrypoints.support import record_of

AT_ONCE = DatabaseRetry(max_attempts=3, initial_delay=timedelta())


@pytest.fixture
def application() -> PgQueuer:
    return PgQueuer.in_memory(settings=Settings())


def send_receipt(order_id: int, *, copy: bool = False) -> str:
    """Sends the receipt."""
    return f"{order_id}, copied" if copy else str(order_id)


def with_all_kinds(a: int, /, b: int, c: int = 3, *rest: int, d: int, e: int = 5, **others: int) -> list[Any]:
    return [a, b, c, list(rest), d, e, others]


def results(pgq: PgQueuer, *ids: int | None) -> list[Any]:
    pgq.drain()
    records = [record_of(pgq, job_id) for job_id in ids if job_id is not None]
    assert [record.errors for record in records] == [[] for _ in records]
    return [record.result for record in records]


def test_a_task_runs_with_the_arguments_that_were_enqueued_and_its_result_is_stored(either: PgQueuer) -> None:
    task = either.task(retry=AT_ONCE)(send_receipt)
    assert results(either, task.enqueue(7, copy=True), task.enqueue(order_id=8)) == ["7, copied", "8"]


def test_a_task_is_called_like_its_function_and_looks_like_it(application: PgQueuer) -> None:
    task = application.task(send_receipt)

    assert (task(7), task(7, copy=True)) == ("7", "7, copied")
    assert (task.__name__, task.__doc__, task.__module__) == ("send_receipt", "Sends the receipt.", __name__)
    assert task.func is task.__wrapped__ is send_receipt
    assert inspect.signature(task) == inspect.signature(send_receipt)
    assert repr(task) == f"<task '{__name__}.send_receipt'>"
    assert application.jobs.count() == {}


@pytest.mark.parametrize(
    ("args", "kwargs", "result"),
    [
        ((1, 2), {"d": 4}, [1, 2, 3, [], 4, 5, {}]),
        ((1,), {"b": 2, "d": 4}, [1, 2, 3, [], 4, 5, {}]),
        ((1, 2, 30, 40, 50), {"d": 4, "e": 6, "f": 7, "a": 8}, [1, 2, 30, [40, 50], 4, 6, {"f": 7, "a": 8}]),
    ],
)
def test_parameters_of_every_kind_get_theirs(
    either: PgQueuer, args: tuple[int, ...], kwargs: dict[str, int], result: list[Any]
) -> None:
    task: Task[..., list[Any]] = either.task(with_all_kinds)
    assert task(*args, **kwargs) == result
    assert results(either, task.enqueue(*args, **kwargs)) == [result]


def test_arguments_are_a_json_object_without_the_defaults(application: PgQueuer) -> None:
    task = application.task(send_receipt)
    assert task.payload(7) == b'{"order_id":7}'
    assert task.payload(copy=False, order_id=7) == b'{"order_id":7,"copy":false}'
    assert application.task(with_all_kinds).payload(1, 2, 3, 4, d=5, f=6) == (
        b'{"a":1,"b":2,"c":3,"rest":[4],"d":5,"others":{"f":6}}'
    )


def test_the_payload_serves_wherever_a_job_is_made(either: PgQueuer) -> None:
    task = either.task("receipt")(send_receipt)
    ids = either.enqueue_many([NewJob(entrypoint=task.name, payload=task.payload(number)) for number in range(3)])
    assert results(either, *ids, either.enqueue("receipt", '{"order_id": 3}')) == ["0", "1", "2", "3"]


def test_a_task_without_parameters_needs_no_payload(either: PgQueuer) -> None:
    task = either.task("hello")(lambda: "hello")
    assert results(either, task.enqueue(), either.enqueue("hello")) == ["hello", "hello"]


# What jobs are enqueued with


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
        parent.using(context=None).enqueue(2)

    either.enqueue("plain")
    assert either.drain().counts == {"succeeded": 3}


# The context


def wants_context(context: Context, order_id: int, /) -> list[Any]:
    return [type(context).__name__, order_id]


def may_want_context(context: Context | None = None, order_id: int = 0) -> list[Any]:
    return [context is not None, order_id]


def test_a_context_is_given_by_the_worker_and_in_a_plain_call_by_the_caller(either: PgQueuer) -> None:
    seen: list[Context] = []

    @either.task("seen")
    def see(context: Context, order_id: int) -> int:
        seen.append(context)
        return order_id

    assert type(see) is ContextTask
    assert results(either, see.enqueue(7)) == [7]
    assert (see(seen[0], 8), seen[0].job.entrypoint, seen[0] is seen[1]) == (8, "seen", True)
    assert see.payload(7) == b'{"order_id":7}'


@pytest.mark.parametrize("timeout", [None, 60])
def test_a_context_may_be_positional_only_or_optional(either: PgQueuer, timeout: int | None) -> None:
    first, second = either.task(timeout=timeout)(wants_context), either.task(timeout=timeout)(may_want_context)
    kind = "Attempt" if timeout else "Context"
    assert results(either, first.enqueue(7), second.enqueue(8), second.enqueue()) == [[kind, 7], [True, 8], [True, 0]]


# Names


class Namespace:
    @staticmethod
    def inside(order_id: int) -> int:
        return order_id

    def method(self, order_id: int) -> int:
        return order_id


def test_a_task_is_named_after_where_it_is_defined_unless_it_is_given_a_name(application: PgQueuer) -> None:
    def local() -> None: ...

    here = "test_a_task_is_named_after_where_it_is_defined_unless_it_is_given_a_name"
    assert application.task(send_receipt).name == f"{__name__}.send_receipt"
    assert application.task()(Namespace.inside).name == f"{__name__}.Namespace.inside"
    assert application.task(priority=1)(local).name == f"{__name__}.{here}.<locals>.local"
    assert application.task("named")(send_receipt).name == "named"
    assert len(application.registry.names()) == 4


@pytest.mark.parametrize(
    ("spec", "file", "name"),
    [("shop.jobs", "/srv/shop/jobs.py", "shop.jobs"), (None, "/srv/jobs.py", "jobs"), (None, None, "__main__")],
)
def test_a_task_of_the_script_that_runs_is_named_as_a_worker_would_import_it(
    application: PgQueuer, monkeypatch: pytest.MonkeyPatch, spec: str | None, file: str | None, name: str
) -> None:
    main = ModuleType("__main__")
    main.__spec__ = SimpleNamespace(name=spec) if spec else None  # type: ignore[assignment]
    if file:
        main.__file__ = file
    monkeypatch.setitem(sys.modules, "__main__", main)
    exec("def send(): ...", main.__dict__)
    assert application.task(main.send).name == f"{name}.send"


def test_a_name_is_taken_once(application: PgQueuer) -> None:
    application.task(send_receipt)
    with pytest.raises(ValueError, match=r"send_receipt' is registered already, for send_receipt: names must be unique"):
        application.task(send_receipt)
    application.entrypoint("taken")(lambda job: None)
    with pytest.raises(ValueError, match=r"'taken' is registered already"):
        application.task("taken")(send_receipt)


@pytest.mark.parametrize("func", [functools.partial(send_receipt, 7), Namespace().method, Namespace.__dict__["inside"]])
def test_with_a_name_other_callables_can_be_tasks_too(either: PgQueuer, func: Callable[..., Any]) -> None:
    task: Any = either.task("named")(func)
    job_id = task.enqueue() if isinstance(func, functools.partial) else task.enqueue(7)
    assert results(either, job_id) in (["7"], [7])


def test_a_task_of_one_application_can_be_declared_in_another(application: PgQueuer) -> None:
    task = PgQueuer.in_memory(settings=Settings()).task("other")(send_receipt)
    again = application.task(task)
    assert again.name == f"{__name__}.send_receipt"
    assert results(application, again.enqueue(7)) == ["7"]


# Executors and limits


def test_an_executor_calls_the_task_by_its_call(either: PgQueuer) -> None:
    class Twice(AbstractEntrypointExecutor):
        def execute(self, job: Job, context: Context) -> Any:
            return [self.parameters.call(job, context), self.parameters.name, self.parameters.func is send_receipt]

    task = either.task("receipt", executor_factory=Twice)(send_receipt)
    assert results(either, task.enqueue(7)) == [["7", "receipt", True]]


def test_a_task_that_fails_is_tried_again(either: PgQueuer) -> None:
    @either.task("flaky", retry=AT_ONCE, executor_factory=EntrypointExecutor)
    def flaky(context: Context, order_id: int) -> int:
        if context.job.attempt == 1:
            raise ConnectionError("at first")
        return order_id

    job_id = flaky.enqueue(7)
    assert either.drain().counts == {"retried": 1, "succeeded": 1}
    assert record_of(either, job_id).result == 7


def test_options_of_the_entrypoint_hold(either: PgQueuer) -> None:
    forgotten = either.task("forgotten", keep_history=False)(send_receipt)
    silent = either.task("silent", store_result=False)(send_receipt)
    gone, kept = forgotten.enqueue(7), silent.enqueue(7)
    either.drain()
    assert either.jobs.get(gone) is None
    assert record_of(either, kept).result is None


def test_max_payload_holds_for_arguments(either: PgQueuer) -> None:
    task = either.task("text")(lambda text: len(text))
    with pytest.raises(PayloadTooLarge, match="1,048,5"):
        task.enqueue("x" * 1024 * 1024)
    with pytest.raises(PayloadTooLarge):
        task.enqueue_many([("x",), ("x" * 1024 * 1024,)])
    assert either.jobs.count() == {}


# In another process

pgq_of_this_module = PgQueuer.in_memory(settings=Settings())


@pgq_of_this_module.task("importable")
def importable(context: Context | None, order_id: int) -> int:
    return order_id


def test_tasks_and_their_calls_travel_to_other_processes_by_name(application: PgQueuer) -> None:
    assert pickle.loads(pickle.dumps(importable)) is importable

    call = pgq_of_this_module.registry.get("importable").parameters.call
    again = pickle.loads(pickle.dumps(call))
    assert (again.name, again.func, again.context_parameter) == ("importable", importable.func, "context")

    # A function that is no task under its own name: by itself.
    application.task("receipt")(send_receipt)
    call = pickle.loads(pickle.dumps(application.registry.get("receipt").parameters.call))
    assert (call.name, call.func) == ("receipt", send_receipt)
