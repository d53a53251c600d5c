"""How tasks are declared and varied, and which are refused."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.test import override_settings

from tests.django.conformance import functions
from tests.django.conformance.backends import Backend
from tests.django.tasks_of_django import InvalidTask, Task, task, task_backends


def test_the_decorator_is_used_bare_and_with_options(backend: Backend) -> None:
    for made in (task(functions.add.func, backend=backend.alias), task(backend=backend.alias)(functions.add.func)):
        assert isinstance(made, Task)
        assert isinstance(made, task_backends[backend.alias].task_class)
        assert (made.name, made.module_path) == ("add", "tests.django.conformance.functions.add")
        assert (made.priority, made.queue_name, made.run_after, made.takes_context) == (0, "default", None, False)
    assert isinstance(functions.declared, Task)
    told = functions.declared_with_options
    assert (told.priority, told.queue_name, told.backend) == (5, "mail", "default")


def test_a_task_is_called_as_its_function(backend: Backend) -> None:
    made = task(backend=backend.alias)(functions.add.func)
    assert made.call(1, other=2) == 3
    assert task(backend=backend.alias)(functions.add_later.func).call(1, other=2) == 3


async def _acalls(alias: str) -> list[Any]:
    return [await task(backend=alias)(func).acall(1, other=2) for func in (functions.add.func, functions.add_later.func)]


def test_a_task_is_called_from_coroutines(backend: Backend) -> None:
    assert async_to_sync(_acalls)(backend.alias) == [3, 3]


def test_using_makes_another_task(backend: Backend) -> None:
    made = task(backend=backend.alias)(functions.add.func)
    other = made.using(priority=7, queue_name="mail")
    assert (other.priority, other.queue_name, other.func) == (7, "mail", made.func)
    assert (made.priority, made.queue_name) == (0, "default")
    assert made.using() == made
    assert made.using(backend=backend.second).get_backend() is task_backends[backend.second]


def test_tasks_cannot_be_changed(backend: Backend) -> None:
    made = task(backend=backend.alias)(functions.add.func)
    with pytest.raises(AttributeError):
        made.priority = 3


@pytest.mark.parametrize("priority", [-101, 101, 1.5])
def test_priorities_out_of_range_are_refused(backend: Backend, priority: Any) -> None:
    with pytest.raises(InvalidTask, match="whole number between -100 and 100"):
        task(backend=backend.alias, priority=priority)(functions.add.func)
    with pytest.raises(InvalidTask, match="whole number between -100 and 100"):
        task(backend=backend.alias)(functions.add.func).using(priority=priority)


@pytest.mark.parametrize("priority", [-100, 100])
def test_the_extreme_priorities_are_taken(backend: Backend, priority: int) -> None:
    assert task(backend=backend.alias, priority=priority)(functions.add.func).priority == priority


class Callable_:
    def __call__(self) -> None:
        """It is no function."""


def _local() -> Callable[[], None]:
    def inner() -> None:
        """Nobody else can import it."""

    return inner


@pytest.mark.parametrize("func", [_local(), Callable_(), len, Callable_().__call__])
def test_only_functions_of_modules_are_taken(backend: Backend, func: Any) -> None:
    with pytest.raises(InvalidTask, match="module level"):
        task(backend=backend.alias)(func)


def test_a_context_is_the_first_argument(backend: Backend) -> None:
    with pytest.raises(InvalidTask, match="first argument of 'context'"):
        task(backend=backend.alias, takes_context=True)(functions.echo.func)
    assert task(backend=backend.alias, takes_context=True)(functions.attempt.func).takes_context


def test_unknown_queues_are_refused(backend: Backend) -> None:
    with pytest.raises(InvalidTask, match="Queue 'other' is not valid"):
        task(backend=backend.second, queue_name="other")(functions.add.func)
    with pytest.raises(InvalidTask, match="Queue 'other' is not valid"):
        task(backend=backend.second)(functions.add.func).using(queue_name="other")
    assert task(backend=backend.alias, queue_name="any")(functions.add.func).queue_name == "any"


def test_a_time_has_a_time_zone(backend: Backend) -> None:
    made = task(backend=backend.alias)(functions.add.func)
    soon = datetime.now(timezone.utc) + timedelta(hours=1)
    if not backend.defers:
        with pytest.raises(InvalidTask, match="does not support run_after"):
            made.using(run_after=soon)
        return
    assert made.using(run_after=soon).run_after == soon
    with pytest.raises(InvalidTask, match="aware datetime"):
        made.using(run_after=soon.replace(tzinfo=None))
    with override_settings(USE_TZ=False):
        assert made.using(run_after=soon.replace(tzinfo=None)).run_after == soon.replace(tzinfo=None)


def test_capabilities_are_told(backend: Backend) -> None:
    made: Any = task_backends[backend.alias]
    assert made.supports_async_task
    assert made.supports_priority
    assert (made.supports_defer, made.supports_get_result) == (backend.defers, backend.reads_results)
    assert list(made.check()) == []


def test_tasks_are_pickled(backend: Backend) -> None:
    if not backend.pickles:
        pytest.skip(f"tasks of {backend.name} are not pickled by this Django")
    for made in (functions.declared, functions.declared.using(priority=3, backend=backend.alias)):
        assert pickle.loads(pickle.dumps(made)) == made


def test_what_is_no_task_any_more_is_not_unpickled(backend: Backend) -> None:
    if not backend.pickles:
        pytest.skip(f"tasks of {backend.name} are not pickled by this Django")
    made = task(backend=backend.alias)(functions.undeclared)
    with pytest.raises(ValueError, match="to point to a Task instance"):
        pickle.loads(pickle.dumps(made))
