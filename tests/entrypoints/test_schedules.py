"""What `pgq.schedule` accepts, when its ticks are, and what the scheduled function gets."""

from __future__ import annotations

import functools
import queue
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from pgq_sync import Context, DatabaseRetry, PgQueuer, Schedule, ScheduleContext, Settings
from pgq_sync.storage.cron import read
from tests.entrypoints.support import record_of
from tests.waiting import PATIENCE

DUE = datetime(2021, 5, 17, 12, tzinfo=timezone.utc)


@pytest.fixture
def application() -> PgQueuer:
    return PgQueuer.in_memory(settings=Settings())


def handler(schedule: Schedule) -> None: ...


def other(schedule: Schedule) -> None: ...


def expressions(pgq: PgQueuer) -> list[str]:
    return [schedule.expression for schedule in pgq.registry.schedules()]


def fire(pgq: PgQueuer, due_at: datetime = DUE) -> None:
    """Enqueues one tick of every declared schedule, as if it had been due then."""
    for schedule in pgq.registry.schedules():
        tick = {"expression": schedule.expression, "timezone": schedule.timezone, "due_at": due_at.isoformat()}
        pgq.enqueue(schedule.name, headers={"pgq_schedule": tick}, queue=schedule.queue, priority=schedule.priority)


@pytest.mark.parametrize(
    ("expression", "place"),
    [
        ("60 * * * *", "field 1 (minute), at character 1: '60' is not understood, 0 to 59 are accepted"),
        ("* 1,24 * * *", "field 2 (hour), at character 5: '24' is not understood, 0 to 23 are accepted"),
        ("* * 0 * *", "field 3 (day), at character 5: '0' is not understood"),
        ("  *  *  *  foo,1 *", "field 4 (month), at character 12: 'foo' is not understood, 1 to 12, jan to dec"),
        ("* * * 13 *", "field 4 (month), at character 7: '13'"),
        ("* * * * 8", "field 5 (weekday), at character 9: '8'"),
        ("0 0 * * mon-", "field 5 (weekday), at character 9: 'mon-'"),
        ("* * * * * 60", "field 6 (second), at character 11: '60'"),
        ("*/0 * * * *", "field 1 (minute), at character 1: '*/0'"),
        ("1,,2 * * * *", "field 1 (minute), at character 3: ''"),
        ("a b c d e", "field 1 (minute), at character 1: 'a'"),
        # croniter would choose a time at random, anew in each process.
        ("R * * * *", "field 1 (minute), at character 1: 'r'"),
        ("0 R(1-5) * * *", "field 2 (hour), at character 3: 'r(1-5)'"),
        ("H * * * *", "field 1 (minute), at character 1: 'h'"),
        ("0 h(0-3)/2 * * *", "field 2 (hour), at character 3: 'h(0-3)/2'"),
        ("@reboot", "the name '@reboot' (at character 1) is unknown"),
        ("@every 5m", "the name '@every 5m' (at character 1) is unknown"),
        ("", "it has 0 fields"),
        ("nonsense", "it has 1 field."),
        ("0 0 * *", "it has 4 fields"),
        pytest.param("0 0 1 1 * 0 2030", "it has 7 fields", id="seven fields"),
        pytest.param("0 0 30 2 *", "the time that it names never comes", id="a day that never comes"),
        pytest.param("* * * * L5,1", "its fields do not go together", id="what croniter cannot combine"),
    ],
)
def test_an_expression_that_cannot_be_followed_is_refused_by_name_and_place(
    application: PgQueuer, expression: str, place: str
) -> None:
    with pytest.raises(ValueError) as refused:
        application.schedule("cleanup", expression)
    assert str(refused.value).startswith(f"expression={expression!r} is no cron expression: {place}")
    assert "Five fields" in str(refused.value)
    with pytest.raises(ValueError) as refused_too:
        application.schedules.add("cleanup", expression)
    assert str(refused_too.value) == str(refused.value)


def test_an_expression_that_is_too_long_for_a_key_is_refused(application: PgQueuer) -> None:
    with pytest.raises(ValueError, match=r"has 606 characters: at most 500 are accepted"):
        application.schedule("cleanup", ",".join(["10"] * 200) + " * * * *"[:7])


@pytest.mark.parametrize("expression", [None, 5, b"* * * * *"])
def test_an_expression_that_is_no_text_is_refused(application: PgQueuer, expression: Any) -> None:
    with pytest.raises(TypeError, match=r"^expression=.* must be a str"):
        application.schedule("cleanup", expression)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "Europe", "../Berlin", "CEST", "UTC+1", "Europe/Berlin\x00", None, 1])
def test_an_unknown_time_zone_is_refused_by_name(application: PgQueuer, zone: Any) -> None:
    with pytest.raises((ValueError, TypeError)) as refused:
        application.schedule("cleanup", "@hourly", timezone=zone)
    assert str(refused.value).startswith(f"timezone={zone!r}")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("priority", 40_000), ("queue", ""), ("on_failure", "drop"), ("retry", 3)),
        *(("on_missed", "never"), ("on_missed", None), ("clean_old", 1), ("clean_old", None), ("clean_old", "yes")),
        *(("jitter", -1), ("jitter", float("nan")), ("jitter", 366 * 86_400)),
    ],
)
def test_an_option_out_of_range_names_parameter_and_value(application: PgQueuer, option: str, value: Any) -> None:
    with pytest.raises(ValueError) as refused:
        application.schedule("cleanup", "@hourly", **{option: value})
    assert str(refused.value).startswith(f"{option}={value!r}")


@pytest.mark.parametrize("jitter", ["5", True, [1]])
def test_a_jitter_that_is_no_duration_is_refused(application: PgQueuer, jitter: Any) -> None:
    with pytest.raises(TypeError, match=r"^jitter=.* a timedelta or a number of seconds"):
        application.schedule("cleanup", "@hourly", jitter=jitter)


@pytest.mark.parametrize("again", [" 0  9 * *\tmon-fri ", "0 9 * * MON-FRI"])
def test_another_spelling_of_an_expression_is_not_another_schedule(application: PgQueuer, again: str) -> None:
    application.schedule("cleanup", "0 9 * * mon-fri")(handler)
    with pytest.raises(ValueError, match=r"has the expression .* already"):
        application.schedule("cleanup", again)(handler)
    other_application = PgQueuer.in_memory(settings=Settings())
    other_application.schedule("cleanup", again)(handler)
    assert expressions(other_application) == expressions(application)


def test_a_name_that_another_function_has_is_refused(application: PgQueuer) -> None:
    application.schedule("cleanup", "@hourly")(handler)
    with pytest.raises(ValueError, match=r"'cleanup' is registered already, for handler:"):
        application.schedule("cleanup", "@daily")(other)
    with pytest.raises(ValueError, match=r"'cleanup' is registered already, for handler:"):
        application.entrypoint("cleanup")(other)
    application.entrypoint("fetch")(other)
    with pytest.raises(ValueError, match=r"'fetch' is registered already, for other:"):
        application.schedule("fetch", "@daily")(handler)
    assert expressions(application) == ["@hourly"]


def test_one_function_may_have_several_expressions(application: PgQueuer) -> None:
    for expression in ("0 * * * *", "30 * * * *"):
        application.schedule("cleanup", expression)(handler)
    assert expressions(application) == ["0 * * * *", "30 * * * *"]


def test_the_decorators_of_several_expressions_may_stand_above_one_another(application: PgQueuer) -> None:
    @application.schedule("cleanup", "0 * * * *")
    @application.schedule("cleanup", "30 * * * *")
    def cleanup(schedule: Schedule) -> None: ...

    assert sorted(expressions(application)) == ["0 * * * *", "30 * * * *"]


@pytest.mark.parametrize("again", ["0 * * * *", "30 * * * *"])
def test_the_same_expression_again_is_refused(application: PgQueuer, again: str) -> None:
    for expression in ("0 * * * *", "30 * * * *"):
        application.schedule("cleanup", expression)(handler)
    with pytest.raises(ValueError, match=r"'cleanup' has the expression '[03]+ \* \* \* \*' already"):
        application.schedule("cleanup", again)(handler)


def test_options_of_a_further_expression_are_not_dropped_in_silence(application: PgQueuer) -> None:
    application.schedule("cleanup", "0 * * * *")(handler)
    with pytest.raises(ValueError, match="cleanup"):
        application.schedule("cleanup", "30 * * * *", on_failure="hold")(handler)


def test_the_scheduled_function_stays_a_plain_callable(application: PgQueuer) -> None:
    assert application.schedule("cleanup", "@hourly")(handler) is handler


async def asynchronous(schedule: Schedule) -> None: ...


@pytest.mark.parametrize("func", [asynchronous, lambda: None, lambda schedule, client, context: None])
def test_a_function_that_cannot_be_called_with_a_tick_is_refused(application: PgQueuer, func: Callable[..., Any]) -> None:
    with pytest.raises(TypeError):
        application.schedule("cleanup", "@hourly")(func)
    assert (application.registry.names(), expressions(application)) == ((), [])


@pytest.mark.parametrize(
    ("expression", "zone", "after", "expected"),
    [
        ("0 * * * *", "UTC", "2031-05-17T12:00:00Z", "2031-05-17T13:00:00Z"),
        ("0 * * * *", "UTC", "2031-05-17T11:59:59.999999Z", "2031-05-17T12:00:00Z"),
        ("@hourly", "UTC", "2031-05-17T12:00:01Z", "2031-05-17T13:00:00Z"),
        ("@daily", "UTC", "2031-05-17T12:00:00Z", "2031-05-18T00:00:00Z"),
        ("@weekly", "UTC", "2031-05-17T12:00:00Z", "2031-05-18T00:00:00Z"),
        ("@monthly", "UTC", "2031-12-17T12:00:00Z", "2032-01-01T00:00:00Z"),
        ("@yearly", "UTC", "2031-05-17T12:00:00Z", "2032-01-01T00:00:00Z"),
        ("* * * * * *", "UTC", "2031-05-17T12:00:00.250000Z", "2031-05-17T12:00:01Z"),
        ("* * * * * */20", "UTC", "2031-05-17T12:00:41Z", "2031-05-17T12:01:00Z"),
        ("*/15 9-17 * * mon-fri", "UTC", "2031-05-16T17:45:00Z", "2031-05-19T09:00:00Z"),
        ("0 0 29 2 *", "UTC", "2031-05-17T12:00:00Z", "2032-02-29T00:00:00Z"),
        ("0 9 * * *", "Europe/Berlin", "2031-01-15T07:59:59Z", "2031-01-15T08:00:00Z"),
        ("0 9 * * *", "Europe/Berlin", "2031-01-15T08:00:00Z", "2031-01-16T08:00:00Z"),
        ("0 9 * * *", "Europe/Berlin", "2031-07-15T06:59:59Z", "2031-07-15T07:00:00Z"),
        ("0 0 * * mon", "Europe/Berlin", "2031-01-18T12:00:00Z", "2031-01-19T23:00:00Z"),
        ("@monthly", "Europe/Berlin", "2031-07-31T12:00:00Z", "2031-07-31T22:00:00Z"),
        ("30 * * * *", "Asia/Kathmandu", "2031-05-17T12:00:00Z", "2031-05-17T12:45:00Z"),
    ],
)
def test_the_next_tick_is_the_first_time_after(expression: str, zone: str, after: str, expected: str) -> None:
    found = read(expression, zone).after(datetime.fromisoformat(after.replace("Z", "+00:00")))
    assert found.isoformat().replace("+00:00", "Z") == expected


def test_the_function_gets_its_tick_and_the_context(either: PgQueuer) -> None:
    seen: list[tuple[Schedule, Context]] = []

    @either.schedule("cleanup", "0 * * * *", timezone="Europe/Berlin", queue="night", priority=3)
    def cleanup(schedule: Schedule, *, context: Context) -> None:
        seen.append((schedule, context))

    fire(either)
    assert either.drain().counts == {"succeeded": 1}

    ((schedule, context),) = seen
    assert (schedule.name, schedule.expression, schedule.timezone) == ("cleanup", "0 * * * *", "Europe/Berlin")
    assert (schedule.due_at, schedule.due_at.utcoffset()) == (DUE, timedelta())
    assert (schedule.job.entrypoint, schedule.job.queue, schedule.job.priority) == ("cleanup", "night", 3)
    assert context.job is schedule.job


def test_each_expression_of_a_name_has_ticks_of_its_own(either: PgQueuer) -> None:
    seen: list[str] = []

    def cleanup(schedule: Schedule) -> None:
        seen.append(schedule.expression)

    for expression in ("0 * * * *", "30 * * * *"):
        either.schedule("cleanup", expression)(cleanup)
    fire(either)
    either.drain()
    assert sorted(seen) == ["0 * * * *", "30 * * * *"]


def test_a_schedule_has_the_options_of_an_entrypoint(either: PgQueuer) -> None:
    @either.schedule("cleanup", "@hourly", retry=DatabaseRetry(max_attempts=2, initial_delay=timedelta()), on_failure="hold")
    def cleanup(schedule: Schedule) -> None:
        raise ValueError(f"no luck at attempt {schedule.job.attempt}")

    fire(either)
    assert either.drain().counts == {"retried": 1, "held": 1}
    (record,) = either.jobs.find(status="held")
    assert [error["message"] for error in record.errors] == ["no luck at attempt 1", "no luck at attempt 2"]


def test_a_job_enqueued_by_hand_under_the_name_is_its_own_tick(either: PgQueuer) -> None:
    seen: list[Schedule] = []
    either.schedule("cleanup", "@hourly")(seen.append)

    job_id = either.enqueue("cleanup", queue="elsewhere")
    either.drain()

    (schedule,) = seen
    assert (schedule.name, schedule.job.id) == ("cleanup", job_id)
    assert schedule.due_at == record_of(either, job_id).execute_after


def test_two_workers_fire_every_second_and_no_tick_twice(either: PgQueuer) -> None:
    ticks: queue.SimpleQueue[Schedule] = queue.SimpleQueue()
    either.schedule("each second", "* * * * * *")(ticks.put)

    with either.worker(), either.worker():
        seen = [ticks.get(timeout=PATIENCE) for _ in range(3)]

    dues = [schedule.due_at for schedule in seen]
    assert len(set(dues)) == 3
    assert [due.microsecond for due in dues] == [0, 0, 0]
    assert all(schedule.job.claimed_at >= schedule.due_at for schedule in seen)


def test_only_a_worker_with_a_scheduler_takes_care_of_schedules(either: PgQueuer) -> None:
    either.schedule("cleanup", "@hourly")(handler)

    with either.worker(scheduler=False):
        pass
    either.drain()
    assert either.schedules.list() == []
    with either.worker():
        assert [each.name for each in either.schedules.list()] == ["cleanup"]


@pytest.mark.parametrize(
    "headers",
    [{"pgq_schedule": 5}, {"pgq_schedule": ["due_at"]}, {"pgq_schedule": {"due_at": "soon"}}, {"pgq_schedule": {"due_at": 5}}],
    ids=str,
)
def test_headers_that_tell_no_tick_do_no_harm(either: PgQueuer, headers: Any) -> None:
    seen: list[Schedule] = []
    either.schedule("cleanup", "@hourly")(seen.append)
    job_id = either.enqueue("cleanup", headers=headers)
    assert either.drain().counts == {"succeeded": 1}
    assert (seen[0].name, seen[0].due_at) == ("cleanup", record_of(either, job_id).execute_after)


def later_name(schedule: Schedule, other: ScheduleContext) -> None: ...


def for_type_checkers(schedule: Schedule, *, other: NotThere | ScheduleContext) -> None: ...  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize("func", [later_name, for_type_checkers])
def test_a_schedule_context_is_the_context(application: PgQueuer, func: Callable[..., Any]) -> None:
    given: list[object] = []

    @functools.wraps(func)
    def cleanup(schedule: Schedule, other: object) -> None:
        given.append(other)

    application.schedule("cleanup", "@hourly")(cleanup)
    fire(application)
    assert application.drain().counts == {"succeeded": 1}
    assert isinstance(given[0], Context)
