"""Which functions can be no tasks, and which options none of theirs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest

from pgq_sync import (
    Context,
    PgQueuer,
    Settings,
)
from tests.entrypoints.models import Customer
from tests.entrypoints.support import annotated, send_receipt


@pytest.fixture
def application() -> PgQueuer:
    return PgQueuer.in_memory(settings=Settings())


async def coroutine(order_id: int) -> None: ...


async def async_generator(order_id: int) -> AsyncIterator[int]:
    yield 1


def generator(order_id: int) -> Iterator[int]:
    yield 1


class Orders:
    def method(self, order_id: int) -> None: ...

    @classmethod
    def of_class(cls, order_id: int) -> None: ...

    def __call__(self, order_id: int) -> None: ...


def context_second(order_id: int, context: Context) -> None: ...


def context_by_name(order_id: int, *, context: Context | None = None) -> None: ...


def two_contexts(context: Context, order_id: int, again: Context) -> None: ...


def contexts(*contexts: Context) -> None: ...


@pytest.mark.parametrize(
    ("func", "complaint"),
    [
        (coroutine, r"coroutine is async: .*asyncio\.run"),
        (async_generator, "async_generator is async"),
        (generator, "generator is a generator"),
        (Orders, "Orders is a class: a task is a function"),
        (Orders.method, r"Orders\.method is a method, and a job has no object to call it on: make it a function"),
        (lambda: None, "has no name of its own: give it one by @pgq.task"),
        (Orders(), "has no name of its own: give it one by @pgq.task"),
        (context_second, "context is annotated Context, but a task takes its context as the first"),
        (context_by_name, "context is annotated Context, but a task takes its context as the first"),
        (two_contexts, "again is annotated Context, but a task takes its context as the first"),
        (contexts, "contexts is annotated Context, but a task takes its context as the first"),
        (
            annotated(str | datetime),
            r"parameter value cannot be read from JSON: .*more than one str-like type.* several parameters",
        ),
        (annotated(list[bytes | UUID]), "parameter value cannot be read from JSON"),
        (annotated(Customer | int), "parameter value cannot be read from JSON"),
        (annotated(complex), "parameter value is annotated complex, which has no form in JSON: take a dataclass"),
        (annotated(Callable[[], int]), "parameter value is annotated .*Callable.*, which has no form in JSON"),
    ],
)
def test_what_can_be_no_task_is_refused_and_told_the_way_out(application: PgQueuer, func: Any, complaint: str) -> None:
    with pytest.raises(TypeError, match=complaint):
        application.task(func)
    assert application.registry.names() == ()


@pytest.mark.parametrize("thing", [7, b"name", Orders.__dict__["of_class"]])
def test_what_cannot_be_called_is_refused(application: PgQueuer, thing: Any) -> None:
    with pytest.raises(TypeError, match=r"decorates .*, which cannot be called"):
        application.task(thing)
    with pytest.raises(TypeError, match=r"decorates .*, which cannot be called"):
        application.task("name")(thing)


@pytest.mark.parametrize(
    ("option", "value", "kind", "complaint"),
    [
        ("priority", "high", TypeError, "priority='high' must be an int"),
        ("priority", 2**15, ValueError, "priority=32768 is out of range"),
        ("dedupe_key", 7, TypeError, "dedupe_key=7 must be a str"),
        ("dedupe_until", "never", ValueError, "dedupe_until='never': 'finished' or 'started'"),
        ("on_conflict", "skip", ValueError, r"on_conflict='skip': 'raise' or 'existing' .* task\.using\(on_conflict=\.\.\.\)"),
        ("accepts_context", True, TypeError, "accepts_context is not for it"),
        ("on_failure", "retry", ValueError, "on_failure='retry'"),
        ("retries", 3, TypeError, "no option 'retries'; did you mean 'retry'"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(
    application: PgQueuer, option: str, value: Any, kind: type[Exception], complaint: str
) -> None:
    with pytest.raises(kind, match=complaint):
        application.task("receipt", **{option: value})(send_receipt)
    assert application.registry.names() == ()


@pytest.mark.parametrize(
    ("options", "kind", "complaint"),
    [
        ({"prio": 1}, TypeError, "no option 'prio'; did you mean 'priority'"),
        ({"context": object(), "connection": object()}, TypeError, "both connection and context are given"),
        ({"context": 7}, TypeError, "task 'receipt': context=7 must be the Context that a handler gets"),
        ({"priority": "high"}, TypeError, "priority='high' must be an int"),
        ({"dedupe_key": lambda **_: 7}, TypeError, "dedupe_key=7 must be a str"),
        ({"on_conflict": "ignore"}, ValueError, "on_conflict='ignore'"),
        ({"execute_after": datetime(2031, 5, 17)}, ValueError, "has no time zone"),  # noqa: DTZ001
        ({"notify": 1}, TypeError, "notify=1"),
        ({"queue": ""}, ValueError, "queue=''"),
    ],
)
def test_options_of_a_job_that_cannot_be_meant_are_refused(
    either: PgQueuer, options: dict[str, Any], kind: type[Exception], complaint: str
) -> None:
    task = either.task("receipt")(send_receipt)
    with pytest.raises(kind, match=complaint):
        task.using(**options).enqueue(7)
    with pytest.raises(kind, match=complaint):
        task.using(**options).enqueue_many([(7,)])
    assert either.jobs.count() == {}


def test_a_context_that_only_occurs_in_another_type_is_none(application: PgQueuer) -> None:
    with pytest.raises(TypeError, match="parameter contexts"):

        @application.task("receipt")
        def refused(contexts: type[Context]) -> None: ...


@pytest.mark.parametrize(
    ("key", "complaint"),
    [
        (lambda order_id: "a", "got an unexpected keyword argument 'copy'. Let it take the others by"),
        (lambda order_id, copy, page: "a", "missing a required argument: 'page'"),
        (lambda: "a", "got an unexpected keyword argument"),
    ],
)
def test_a_function_that_cannot_make_a_key_of_the_arguments_is_refused(
    application: PgQueuer, key: Callable[..., str], complaint: str
) -> None:
    with pytest.raises(TypeError, match=f"^dedupe_key of task 'receipt' is called with order_id, copy by name: {complaint}"):
        application.task("receipt", dedupe_key=key)(send_receipt)
    with pytest.raises(TypeError, match=f"^dedupe_key of task 'other' is called with order_id, copy by name: {complaint}"):
        application.task("other")(send_receipt).using(dedupe_key=key)
    assert application.registry.names() == ("other",)


@pytest.mark.parametrize("declare", [lambda pgq: pgq.entrypoint("again"), lambda pgq: pgq.schedule("again", "@daily")])
def test_a_task_is_no_function_of_a_job_or_a_tick(declare: Callable[[PgQueuer], Callable[..., Any]]) -> None:
    pgq = PgQueuer.in_memory()
    task = pgq.task("receipt")(send_receipt)
    with pytest.raises(TypeError, match=r"<task 'receipt'> is an entrypoint of its own.* entrypoint='receipt', payload="):
        declare(pgq)(task)
    assert pgq.registry.names() == ("receipt",)
    assert pgq.registry.schedules() == ()
