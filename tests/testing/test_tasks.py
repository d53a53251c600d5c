"""Tasks in tests: by themselves and their arguments, in place of a name and a payload."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from pgq_sync import PgQueuer, testing
from pgq_sync.entrypoints.tasks import Task
from tests.entrypoints.support import send_receipt


@pytest.fixture
def receipt(either: PgQueuer) -> Task[..., str]:
    task: Task[..., str] = either.task("receipt", timeout=timedelta(minutes=1))(send_receipt)
    return task


@pytest.mark.parametrize(("arguments", "result"), [((7,), "7"), (((8,), {"copy": True}), "8, copied")])
def test_run_job_calls_a_task_with_its_arguments(
    either: PgQueuer, receipt: Task[..., str], arguments: tuple[Any, ...], result: str
) -> None:
    assert testing.run_job(either, receipt, arguments=arguments) == result


@pytest.mark.parametrize("arguments", [(7,), ((), {"order_id": 7}), ((7,), {"copy": False})])
def test_a_job_is_found_by_what_the_function_is_called_with(
    either: PgQueuer, receipt: Task[..., str], arguments: tuple[Any, ...]
) -> None:
    short, explicit = receipt.enqueue(7), receipt.enqueue(7, copy=False)
    receipt.enqueue(7, copy=True)
    either.enqueue("receipt", b"of an earlier version")
    found = testing.assert_enqueued(either, receipt, arguments=arguments, count=2)
    assert [job.id for job in found] == [short, explicit]


def test_other_arguments_are_shown(either: PgQueuer, receipt: Task[..., str]) -> None:
    receipt.enqueue(7)
    testing.assert_not_enqueued(either, receipt, arguments=(8,))
    with pytest.raises(AssertionError) as raised:
        testing.assert_enqueued(either, receipt, arguments=(8,))
    wanted, there = str(raised.value).split("unfinished are")
    assert """payload=b'{"order_id":8}'""" in wanted
    assert """payload=b'{"order_id":7}' (other payload)""" in there


def test_arguments_are_those_of_a_task_and_stand_for_its_payload(either: PgQueuer, receipt: Task[..., str]) -> None:
    calls: list[Any] = [testing.run_job, testing.assert_enqueued, testing.assert_not_enqueued]
    for call in calls:
        with pytest.raises(TypeError, match=r"arguments=\(7,\) are those of a task, and 'receipt' is none: give it a payload"):
            call(either, "receipt", arguments=(7,))
        with pytest.raises(TypeError, match=r"payload='x': arguments=\(7,\) are given in its place"):
            call(either, receipt, payload="x", arguments=(7,))
        with pytest.raises(TypeError, match=r"arguments=7: a tuple is accepted"):
            call(either, receipt, arguments=7)
        with pytest.raises(TypeError, match="task 'receipt': too many positional arguments"):
            call(either, receipt, arguments=(7, True))


def test_a_task_may_be_scheduled_with_its_arguments(either: PgQueuer, receipt: Task[..., str]) -> None:
    with testing.clock(either) as clock:
        either.schedules.add("daily", "@daily", entrypoint=receipt.name, payload=receipt.payload(7))
        clock.advance(timedelta(days=1))
        testing.tick(either)
        testing.assert_enqueued(either, receipt, arguments=(7,), count=1)
        assert testing.drain(either).counts == {"succeeded": 1}
