"""What is enqueued, what becomes of it, and what its result tells then."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from tests.django.conformance import functions
from tests.django.conformance.backends import Backend, ended
from tests.django.tasks_of_django import (
    TaskResultDoesNotExist,
    TaskResultMismatch,
    TaskResultStatus,
    default_task_backend,
    task,
    task_backends,
    task_enqueued,
    task_finished,
    task_started,
)

_SIGNALS = {"enqueued": task_enqueued, "started": task_started, "finished": task_finished}


@contextmanager
def signals() -> Iterator[list[Any]]:
    """What is sent meanwhile: the signal's name, its sender, the result's id and status."""
    sent: list[Any] = []

    def noting(name: str) -> Any:
        return lambda sender, task_result, **_: sent.append((name, sender, task_result.id, task_result.status))

    receivers = {name: noting(name) for name in _SIGNALS}
    for name, receiver in receivers.items():
        _SIGNALS[name].connect(receiver)
    try:
        yield sent
    finally:
        for name, receiver in receivers.items():
            _SIGNALS[name].disconnect(receiver)


def test_what_is_enqueued_has_a_result(backend: Backend) -> None:
    made = task(backend=backend.alias)(functions.add.func)
    result = made.enqueue(1, other=2)
    assert isinstance(result.id, str)
    assert 0 < len(result.id) <= 64
    assert (result.task, result.args, result.kwargs, result.backend) == (made, [1], {"other": 2}, backend.alias)
    assert result.enqueued_at is not None
    if not backend.runs_at_once:
        assert (result.status, result.is_finished, result.attempts) == (TaskResultStatus.READY, False, 0)
        assert (result.started_at, result.last_attempted_at, result.finished_at) == (None, None, None)
        assert (result.errors, result.worker_ids) == ([], [])
        with pytest.raises(ValueError, match="not finished"):
            _ = result.return_value
    assert made.enqueue(1).id != result.id


def test_a_task_that_returns_is_successful(running: Backend) -> None:
    result = ended(running, task(backend=running.alias)(functions.add.func).enqueue(1, other=2))
    assert (result.status, result.is_finished, result.return_value) == (TaskResultStatus.SUCCESSFUL, True, 3)
    assert result.attempts == len(result.worker_ids) == 1
    assert all(isinstance(worker, str) and 0 < len(worker) <= 64 for worker in result.worker_ids)
    assert result.started_at == result.last_attempted_at <= result.finished_at
    assert result.errors == []


def test_none_is_a_return_value(running: Backend) -> None:
    result = ended(running, task(backend=running.alias)(functions.echo.func).enqueue())
    assert (result.status, result.return_value) == (TaskResultStatus.SUCCESSFUL, None)


@pytest.mark.parametrize("func", [functions.fail.func, functions.fail_later.func])
def test_a_task_that_raises_has_failed(running: Backend, func: Any) -> None:
    result = ended(running, task(backend=running.alias)(func).enqueue("told"))
    assert (result.status, result.is_finished, result.attempts) == (TaskResultStatus.FAILED, True, 1)
    with pytest.raises(ValueError, match="failed"):
        _ = result.return_value
    (error,) = result.errors
    assert (error.exception_class, error.exception_class_path) == (LookupError, "builtins.LookupError")
    assert "LookupError: told" in error.traceback
    assert f"in {func.__name__}" in error.traceback
    assert result.finished_at is not None


@pytest.mark.parametrize(
    ("func", "args", "error"),
    [(functions.leave.func, (), SystemExit), (functions.no_json.func, (), TypeError), (functions.add.func, (1, 2, 3), TypeError)],
)
def test_however_a_task_ends_it_has_a_result(running: Backend, func: Any, args: Any, error: type[BaseException]) -> None:
    result = ended(running, task(backend=running.alias)(func).enqueue(*args))
    assert result.status is TaskResultStatus.FAILED
    assert [each.exception_class for each in result.errors] == [error]


def test_coroutines_are_run(running: Backend) -> None:
    assert ended(running, task(backend=running.alias)(functions.add_later.func).enqueue(1, other=2)).return_value == 3


async def _aenqueue(made: Any) -> Any:
    return await made.aenqueue(1, other=2)


@pytest.mark.parametrize("func", [functions.add.func])
def test_tasks_are_enqueued_by_coroutines(running: Backend, func: Any) -> None:
    result = async_to_sync(_aenqueue)(task(backend=running.alias)(func))
    assert ended(running, result).return_value == 3


def test_a_task_gets_its_context(running: Backend) -> None:
    result = ended(running, task(backend=running.alias, takes_context=True)(functions.attempt.func).enqueue("word"))
    assert result.return_value == [1, 1, result.id, "RUNNING", ["word"], "word"]


def test_priority_and_queue_are_the_results_tasks(backend: Backend) -> None:
    result = task(backend=backend.second)(functions.add.func).using(priority=-3, queue_name="mail").enqueue(1)
    assert (result.task.priority, result.task.queue_name, result.backend) == (-3, "mail", backend.second)


def test_aliases_keep_their_results_apart(running: Backend) -> None:
    made = task(backend=running.alias)(functions.add.func)
    results = [made.enqueue(1), made.using(backend=running.second).enqueue(2)]
    for result in results:
        ended(running, result)
    assert [(result.backend, result.return_value) for result in results] == [(running.alias, 2), (running.second, 3)]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ((1, [2, (3,)]), [1, [2, [3]]]),
        ({"a": {"b": (True, None, 1.5)}}, {"a": {"b": [True, None, 1.5]}}),
        (b"text", "text"),
        ("\u00fc\u4e2d\U0001f600", "\u00fc\u4e2d\U0001f600"),
        (2**60, 2**60),
    ],
)
def test_arguments_and_returns_are_as_json_gives_them_back(running: Backend, given: Any, kept: Any) -> None:
    result = task(backend=running.alias)(functions.echo.func).enqueue(given)
    assert result.args == [kept]
    assert ended(running, result).return_value == kept
    assert result.args == [kept]


@pytest.mark.parametrize(("value", "error"), [({1, 2}, TypeError), (object(), TypeError), (b"\xff", ValueError)])
def test_what_has_no_form_in_json_is_refused(backend: Backend, value: Any, error: type[Exception]) -> None:
    made = task(backend=backend.alias)(functions.echo.func)
    with signals() as sent:
        for args, kwargs in (((value,), {}), ((), {"value": value}), (([{"deep": value}],), {})):
            with pytest.raises(error):
                made.enqueue(*args, **kwargs)
    assert sent == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\0", "\ud800", {1: 2}])
def test_what_json_itself_has_no_form_for_is_refused(backend: Backend, value: Any) -> None:
    if not backend.is_strict:
        pytest.skip(f"{backend.name} takes it")
    with pytest.raises((TypeError, ValueError)):
        task(backend=backend.alias)(functions.echo.func).enqueue(value)


@pytest.mark.parametrize(
    ("func", "args", "status"),
    [(functions.add.func, (1,), TaskResultStatus.SUCCESSFUL), (functions.fail.func, ("told",), TaskResultStatus.FAILED)],
)
def test_signals_come_in_order(running: Backend, func: Any, args: Any, status: TaskResultStatus) -> None:
    with signals() as sent:
        result = ended(running, task(backend=running.alias)(func).enqueue(*args))
    sender = type(task_backends[running.alias])
    assert sent == [
        ("enqueued", sender, result.id, TaskResultStatus.READY),
        ("started", sender, result.id, TaskResultStatus.RUNNING),
        ("finished", sender, result.id, status),
    ]


def test_a_receivers_refusal_reaches_whoever_enqueues(backend: Backend) -> None:
    def refuse(**_: Any) -> None:
        raise PermissionError

    task_enqueued.connect(refuse)
    try:
        with pytest.raises(PermissionError):
            task(backend=backend.alias)(functions.add.func).enqueue(1)
    finally:
        task_enqueued.disconnect(refuse)


def test_a_result_is_read_anew(reading: Backend) -> None:
    made = task(backend=reading.alias)(functions.add.func)
    result = made.enqueue(1)
    waiting = made.get_result(result.id)
    assert (waiting.status, waiting.id, waiting.args) == (TaskResultStatus.READY, result.id, [1])
    reading.finish()
    assert waiting.status is TaskResultStatus.READY
    waiting.refresh()
    assert (waiting.status, waiting.return_value) == (TaskResultStatus.SUCCESSFUL, 2)
    async_to_sync(result.arefresh)()
    assert result.return_value == 2
    assert task_backends[reading.alias].get_result(result.id) == made.get_result(result.id) == waiting
    assert async_to_sync(made.aget_result)(result.id) == waiting


def test_a_deferred_task_waits(reading: Backend) -> None:
    made = task(backend=reading.alias)(functions.add.func)
    result = ended(reading, made.using(run_after=datetime.now(timezone.utc) + timedelta(hours=1)).enqueue(1))
    assert result.status is TaskResultStatus.READY


def test_there_is_no_result_without_a_task(reading: Backend) -> None:
    made = task(backend=reading.alias)(functions.add.func)
    for unknown in ("123", "no such id"):
        with pytest.raises(TaskResultDoesNotExist):
            made.get_result(unknown)
        with pytest.raises(TaskResultDoesNotExist):
            async_to_sync(task_backends[reading.alias].aget_result)(unknown)


def test_a_result_belongs_to_its_task(reading: Backend) -> None:
    result = task(backend=reading.alias)(functions.add.func).enqueue(1)
    other = task(backend=reading.alias)(functions.echo.func)
    with pytest.raises(TaskResultMismatch):
        other.get_result(result.id)
    with pytest.raises(TaskResultMismatch):
        async_to_sync(other.aget_result)(result.id)
    assert task(backend=reading.alias)(functions.add.func).using(priority=9).get_result(result.id).id == result.id


def test_results_are_pickled(backend: Backend) -> None:
    if not backend.pickles:
        pytest.skip(f"tasks of {backend.name} are not pickled by this Django")
    result = functions.declared.using(backend=backend.alias).enqueue(7)
    assert pickle.loads(pickle.dumps(result)) == result


def test_the_default_backend_is_that_of_the_settings() -> None:
    assert type(default_task_backend.get_result) is type(task_backends["default"].get_result)
    assert default_task_backend.alias == "default"
