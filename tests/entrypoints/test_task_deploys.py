"""Jobs that were enqueued for an earlier version of their function: those that fit run, the others fail at once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import tenacity

from pgq_sync import (
    AbstractEntrypointExecutor,
    Context,
    DatabaseRetry,
    Job,
    JobRecord,
    PgQueuer,
    Settings,
)
from tests.entrypoints.support import record_of

ALWAYS = DatabaseRetry(max_attempts=3, initial_delay=timedelta(), retry=tenacity.retry_always)


def send(order_id: int, *, copy: bool = False) -> list[Any]:
    return [order_id, copy]


def ran(pgq: PgQueuer, func: Callable[..., Any], payload: str | bytes | None, **options: Any) -> JobRecord:
    """What became of a job with this payload."""
    pgq.task("send", **options)(func)
    job_id = pgq.enqueue("send", payload)
    pgq.drain()
    return record_of(pgq, job_id)


class Stubborn(AbstractEntrypointExecutor):
    """Tries again in process whatever the function raises."""

    def execute(self, job: Job, context: Context) -> Any:
        for _ in range(3):
            try:
                return self.parameters.call(job, context)
            except Exception:
                continue
        raise RuntimeError("it was tried three times")


@pytest.mark.parametrize(
    ("payload", "complaint"),
    [
        ("{}", "missing the argument `order_id`"),
        (None, "missing the argument `order_id`"),
        ('{"order_id": 7, "format": "pdf"}', "there is no parameter `format`"),
        ('{"order_id": "seven"}', "order_id: Expected `int`, got `str`"),
        ('{"order_id": null}', "order_id: Expected `int`, got `null`"),
        ("[7]", "Expected `object`, got `array`"),
        ("null", "Expected `object`, got `null`"),
        ("", "Input data was truncated"),
        ("seven", "JSON is malformed: invalid character (byte 0)"),
        ('{"order_id": 7', "Input data was truncated"),
        (b"\x80\x04K\x07.", "JSON is malformed: invalid character (byte 0)"),
        (b'{"order_id": 7, "copy": "\xff"}', "copy: Expected `bool`, got `str`"),
    ],
)
def test_arguments_that_no_longer_fit_fail_the_job_at_once(either: PgQueuer, payload: str | bytes | None, complaint: str) -> None:
    record = ran(either, send, payload, retry=ALWAYS)

    assert (record.status, record.attempts) == ("failed", 1)
    assert [(error["type"], error["message"]) for error in record.errors] == [
        ("pgq_sync.errors.ArgumentsError", f"the job's arguments do not fit send: {complaint}")
    ]


@pytest.mark.parametrize(
    "options", [{}, {"executor_factory": Stubborn}, {"retry": ALWAYS, "timeout": 60}, {"retry": ALWAYS, "transactional": True}]
)
def test_nothing_tries_such_a_job_again(either: PgQueuer, options: dict[str, Any]) -> None:
    record = ran(either, send, "{}", **options)
    assert (record.status, record.attempts) == ("failed", 1)
    assert [error["type"] for error in record.errors] == ["pgq_sync.errors.ArgumentsError"]


def test_such_a_job_is_held_where_failures_are(either: PgQueuer) -> None:
    record = ran(either, send, "{}", retry=ALWAYS, on_failure="hold")
    assert (record.status, record.attempts) == ("held", 1)


def test_a_handler_cannot_mistake_it_for_an_error_of_its_own(either: PgQueuer) -> None:
    """The function is never entered: neither its `except` nor its `finally` runs."""
    entered: list[int] = []
    ran(either, lambda order_id: entered.append(order_id), "{}")
    assert entered == []


def with_an_option(order_id: int, *, copy: bool = False, format: str = "pdf") -> list[Any]:  # noqa: A002
    return [order_id, copy, format]


def without_default(order_id: int, copy: bool) -> list[Any]:
    return [order_id, copy]


def reordered(copy: bool, order_id: int) -> list[Any]:
    return [order_id, copy]


def renamed(order: int, *, copy: bool = False) -> list[Any]:
    return [order, copy]


def widened(order_id: int | str | None, *, copy: bool = True, **others: Any) -> list[Any]:
    return [order_id, copy]


def with_a_leading_option(format: str = "pdf", *numbers: int, order_id: int, copy: bool = False) -> list[Any]:  # noqa: A002
    return [order_id, copy, format, list(numbers)]


def with_positional_defaults(order_id: int = 0, copy: bool = False, /) -> list[Any]:
    return [order_id, copy]


@pytest.mark.parametrize(
    ("later", "kwargs", "result"),
    [
        (with_an_option, {}, [7, False, "pdf"]),
        (with_an_option, {"copy": True}, [7, True, "pdf"]),
        (without_default, {"copy": True}, [7, True]),
        (without_default, {}, "missing the argument `copy`"),
        (reordered, {"copy": False}, [7, False]),
        (renamed, {}, "there is no parameter `order_id`|missing the argument `order`"),
        (widened, {}, [7, True]),
        (with_a_leading_option, {"copy": True}, [7, True, "pdf", []]),
        (with_positional_defaults, {"copy": True}, [7, True]),
    ],
)
def test_a_function_that_has_changed_takes_what_it_can(
    either: PgQueuer, later: Callable[..., Any], kwargs: dict[str, bool], result: Any
) -> None:
    payload = PgQueuer.in_memory(settings=Settings()).task("send")(send).payload(7, **kwargs)
    record = ran(either, later, payload)

    if isinstance(result, list):
        assert (record.status, record.result) == ("succeeded", result)
    else:
        assert record.status == "failed"
        assert any(each in record.errors[0]["message"] for each in result.split("|"))


def test_what_stood_under_rest_still_does_after_a_parameter_was_put_before_it(either: PgQueuer) -> None:
    payload = PgQueuer.in_memory(settings=Settings()).task("send")(lambda *numbers: None).payload(1, 2)
    record = ran(either, lambda copy=False, *numbers: [copy, *numbers], payload)
    assert record.result == [False, 1, 2]
