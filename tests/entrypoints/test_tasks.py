"""Tasks: functions whose jobs carry their arguments: what they are, what they are called, and how they run."""

from __future__ import annotations

import functools
import inspect
import pickle
import sys
from collections.abc import Callable
from datetime import timedelta
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from pgq_sync import (
    AbstractEntrypointExecutor,
    Context,
    ContextTask,
    DatabaseRetry,
    EntrypointExecutor,
    Job,
    NewJob,
    PgQueuer,
    Settings,
    Task,
)
from tests.entrypoints.support import record_of, results, send_receipt, with_all_kinds

AT_ONCE = DatabaseRetry(max_attempts=3, initial_delay=timedelta())


@pytest.fixture
def application() -> PgQueuer:
    return PgQueuer.in_memory(settings=Settings())


def test_a_task_runs_with_the_arguments_that_were_enqueued_and_its_result_is_stored(either: PgQueuer) -> None:
    task = either.task(retry=AT_ONCE)(send_receipt)
    assert results(either, task.enqueue(7, copy=True), task.enqueue(order_id=8)) == ["7, copied", "8"]


def test_a_task_is_called_like_its_function_and_looks_like_it(application: PgQueuer) -> None:
    task = application.task(send_receipt)

    assert (task(7), task(7, copy=True)) == ("7", "7, copied")
    assert (task.__name__, task.__doc__, task.__module__) == ("send_receipt", "Sends the receipt.", send_receipt.__module__)
    assert task.func is task.__wrapped__ is send_receipt
    assert inspect.signature(task) == inspect.signature(send_receipt)
    assert repr(task) == f"<task '{send_receipt.__module__}.send_receipt'>"
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
    assert application.task(send_receipt).name == f"{send_receipt.__module__}.send_receipt"
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
    assert again.name == f"{send_receipt.__module__}.send_receipt"
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
