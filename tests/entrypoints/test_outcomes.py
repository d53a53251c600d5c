"""How a handler's end becomes the end of its job: results, errors of every shape, and the exceptions that steer."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any, NoReturn

import psycopg
import pytest
import tenacity
from psycopg.pq import TransactionStatus

from pgq_sync import Cancelled, Context, DatabaseRetry, Hold, Job, PgQueuer, Schedule, Settings
from tests.entrypoints.support import record_of, run_one

# Of every exception: what steers a job is none.
ALWAYS = DatabaseRetry(max_attempts=3, initial_delay=timedelta(), retry=tenacity.retry_always)


def raising(error: BaseException) -> Callable[[Job], None]:
    def handler(job: Job) -> NoReturn:
        raise error

    return handler


class Unspeakable(Exception):
    """Has a message that cannot be made."""

    def __str__(self) -> str:
        raise self.args[0]


@pytest.mark.parametrize("retry", [None, ALWAYS])
def test_a_cancelled_job_goes_to_history_and_is_not_tried_again(either: PgQueuer, retry: DatabaseRetry | None) -> None:
    record = run_one(either, raising(Cancelled("no longer wanted")), retry=retry, on_failure="hold")

    assert (record.status, record.attempts) == ("cancelled", 1)
    assert record.finished_at is not None
    assert [error["message"] for error in record.errors] == ["no longer wanted"]


@pytest.mark.parametrize("retry", [None, ALWAYS])
def test_a_held_job_waits_for_a_person_with_its_reason(either: PgQueuer, retry: DatabaseRetry | None) -> None:
    record = run_one(either, raising(Hold("the address is in no register")), retry=retry)

    assert (record.status, record.attempts, record.finished_at) == ("held", 1, None)
    assert [error["message"] for error in record.errors] == ["the address is in no register"]
    assert either.drain().counts == {}


def test_holding_keeps_the_reason_and_what_caused_it(either: PgQueuer) -> None:
    def handler(job: Job) -> None:
        try:
            raise LookupError("no such street")
        except LookupError as error:
            raise Hold("the address is in no register") from error

    (error,) = run_one(either, handler).errors
    assert "the address is in no register" in error["message"]
    assert "LookupError: no such street" in error["traceback"]


@pytest.mark.parametrize(("kind", "status"), [(Hold, "held"), (Cancelled, "cancelled")])
@pytest.mark.parametrize(
    ("reason", "told"),
    [
        (LookupError("no such street"), "no such street"),
        (TimeoutError(), "TimeoutError()"),
        (404, "404"),
        (0, "0"),
        (Unspeakable(ValueError()), "(a Unspeakable whose text cannot be made: ValueError)"),
    ],
)
def test_a_reason_may_be_any_object(
    either: PgQueuer, kind: Callable[[Any], BaseException], reason: Any, told: str, status: str
) -> None:
    record = run_one(either, raising(kind(reason)))

    assert record.status == status
    assert [error["message"] for error in record.errors] == [told]


@pytest.mark.parametrize("control", [Cancelled("stop"), Hold("stop")])
def test_a_handler_that_catches_every_exception_does_not_swallow_what_steers(either: PgQueuer, control: BaseException) -> None:
    def handler(job: Job) -> None:
        try:
            raise control
        except Exception:
            return

    assert run_one(either, handler).status in ("cancelled", "held")


def test_check_raises_once_the_job_was_asked_to_stop(either: PgQueuer) -> None:
    def handler(job: Job, context: Context) -> None:
        context.check()
        context.cancelled.set()
        context.check()

    assert run_one(either, handler).status == "cancelled"


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_what_would_end_a_process_fails_its_job_and_the_worker_goes_on(either: PgQueuer, error: BaseException) -> None:
    either.entrypoint("exits")(raising(error))
    either.entrypoint("goes on")(lambda job: None)
    exits = [either.enqueue("exits", priority=1) for _ in range(3)]
    either.enqueue("goes on")

    assert either.drain(concurrency=1).counts == {"failed": 3, "succeeded": 1}
    assert record_of(either, exits[0]).errors[0]["type"] == type(error).__name__


@pytest.mark.parametrize("broken", [ValueError("no"), RecursionError(), KeyboardInterrupt(), SystemExit()])
def test_an_error_whose_message_cannot_be_made_is_recorded_by_its_type(either: PgQueuer, broken: BaseException) -> None:
    record = run_one(either, raising(Unspeakable(broken)), on_failure="hold")

    assert record.status == "held"
    assert record.errors[0]["type"].endswith("Unspeakable")
    assert "message could not be made" in record.errors[0]["message"]
    assert "in handler" in record.errors[0]["traceback"]


def test_a_message_that_postgresql_cannot_store_is_kept_with_escapes(either: PgQueuer) -> None:
    (error,) = run_one(either, raising(ValueError("nul \x00, half \ud800, whole 😀"))).errors

    assert error["message"] == "nul \\x00, half \\ud800, whole 😀"
    assert error["traceback"].endswith("ValueError: nul \\x00, half \\ud800, whole 😀\n")


def test_of_a_huge_message_the_beginning_and_the_end_are_kept(either: PgQueuer) -> None:
    (error,) = run_one(either, raising(ValueError("the beginning" + 5_000_000 * "x" + "the end"))).errors

    assert error["message"].startswith("the beginning")
    assert error["message"].endswith("the end")
    assert "characters left out" in error["message"]
    assert error["traceback"].startswith("Traceback")
    assert len(json.dumps(error)) < 30_000


def test_the_type_of_an_error_is_named_with_its_module(either: PgQueuer) -> None:
    (error,) = run_one(either, raising(json.JSONDecodeError("bad", "doc", 0))).errors
    assert error["type"] == "json.decoder.JSONDecodeError"


def test_an_error_is_kept_with_what_it_was_raised_from(either: PgQueuer) -> None:
    def handler(job: Job) -> None:
        try:
            raise LookupError("first")
        except LookupError as error:
            raise ValueError("second") from error

    (error,) = run_one(either, handler).errors
    assert (error["type"], error["message"]) == ("ValueError", "second")
    assert error["traceback"].index("LookupError: first") < error["traceback"].index("ValueError: second")


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ({"ids": [1, 2.5, None, True]}, {"ids": [1, 2.5, None, True]}),
        ("ä😀", "ä😀"),
        ("nul \x00", "nul \x00"),
        (0, 0),
        (False, False),
        ("", ""),
        ([], []),
        (None, None),
        (2**70, 2**70),
        ((1, 2), [1, 2]),
        (datetime(2031, 5, 17, tzinfo=timezone.utc), "2031-05-17T00:00:00Z"),
    ],
)
def test_a_result_is_stored_as_json(either: PgQueuer, value: Any, stored: Any) -> None:
    record = run_one(either, lambda job: value, store_result=True)
    assert (record.status, record.result) == ("succeeded", stored)
    assert type(record.result) is type(stored)


def test_a_result_is_not_stored_unless_asked_for(either: PgQueuer) -> None:
    record = run_one(either, lambda job: {"ids": [1]})
    assert (record.status, record.result) == ("succeeded", None)
    assert run_one(PgQueuer.in_memory(settings=Settings()), lambda job: object()).status == "succeeded"


def itself() -> list[Any]:
    endless: list[Any] = []
    endless.append(endless)
    return endless


@pytest.mark.parametrize("value", [object(), {"nested": [object()]}, itself(), "half \ud800"])
@pytest.mark.parametrize(("on_failure", "status"), [("fail", "failed"), ("hold", "held")])
def test_a_result_that_is_no_json_fails_the_job_with_the_reason(
    either: PgQueuer, value: Any, on_failure: str, status: str
) -> None:
    record = run_one(either, lambda job: value, store_result=True, on_failure=on_failure)

    assert (record.status, record.attempts, record.result) == (status, 1, None)
    said = f"what entrypoint 'work' returned, of type {type(value).__name__}, is no JSON to be stored: "
    assert record.errors[0]["message"].startswith(said)


def test_without_history_a_success_leaves_nothing_and_a_failure_all(either: PgQueuer) -> None:
    either.entrypoint("forgotten", keep_history=False, store_result=True)(lambda job: "a result")
    either.entrypoint("remembered", keep_history=False)(raising(ValueError("broken")))
    forgotten, remembered = either.enqueue("forgotten"), either.enqueue("remembered")

    assert either.drain().counts == {"succeeded": 1, "failed": 1}
    assert either.jobs.get(forgotten) is None
    assert record_of(either, remembered).errors[0]["message"] == "broken"
    assert either.jobs.count() == {("remembered", "failed"): 1}


def test_children_run_in_the_same_drain(either: PgQueuer) -> None:
    @either.entrypoint("parent", store_result=True, queue="family")
    def parent(job: Job, context: Context) -> list[int]:
        depth = int(job.payload or b"0")
        return [context.enqueue("parent", str(depth - 1), priority=depth) for _ in range(2) if depth > 0]

    root = either.enqueue("parent", "3")
    assert either.drain().counts == {"succeeded": 1 + 2 + 4 + 8}
    children = [record_of(either, child) for child in record_of(either, root).result]
    assert [(child.payload, child.priority, child.queue) for child in children] == 2 * [(b"2", 3, "family")]


def test_children_stay_out_of_a_transaction_that_the_caller_has_open(dsn: str) -> None:
    def parent(job: Job, context: Context) -> None:
        if job.payload == b"with a child":
            context.enqueue("parent")

    with psycopg.connect(dsn) as connection:
        pgq = PgQueuer.from_psycopg_connection(connection, settings=Settings())
        pgq.entrypoint("parent")(parent)
        with pgq:
            pgq.enqueue("parent", "with a child")
            connection.commit()
            assert pgq.drain().counts == {"succeeded": 2}
            assert connection.info.transaction_status == TransactionStatus.IDLE


def test_all_jobs_and_schedules_share_one_mapping_of_resources() -> None:
    resources: dict[str, Any] = {"client": object()}
    pgq = PgQueuer.in_memory(settings=Settings(), resources=resources)
    seen: list[Any] = []

    @pgq.entrypoint("job")
    def job(job: Job, context: Context) -> None:
        context.resources["written by a job"] = True
        seen.append(context.resources)

    @pgq.schedule("schedule", "@yearly")
    def schedule(schedule: Schedule, context: Context) -> None:
        seen.append(context.resources)

    for name in ("job", "job", "schedule"):
        pgq.enqueue(name)
    pgq.drain()
    assert len(seen) == 3
    assert all(each is resources for each in seen)
    assert resources["written by a job"] is True


def test_without_resources_given_each_application_has_a_mapping_of_its_own(either: PgQueuer) -> None:
    def handler(job: Job, context: Context) -> bool:
        return context.resources is either.resources

    assert run_one(either, handler, store_result=True).result is True
    assert PgQueuer.in_memory().resources is not either.resources
