"""The one gate through which every schedule enters, in code or at run time."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, TypedDict, get_args

from pgq_sync.durations import in_seconds
from pgq_sync.models import DeclaredSchedule, NewJob, OnMissed, Payload
from pgq_sync.storage import cron
from pgq_sync.storage.intake import check, check_name, check_priority

_LONGEST_JITTER = timedelta(days=365)


class ScheduleOptions(TypedDict, total=False):
    """What may be said of a schedule wherever it is declared; `PgQueuer.schedule` documents it."""

    timezone: str
    on_missed: OnMissed
    jitter: timedelta | float | None
    queue: str
    priority: int


def check_schedule(
    name: str,
    expression: str,
    *,
    timezone: str = "UTC",
    on_missed: str = "once",
    clean_old: bool = False,
    jitter: timedelta | float | None = None,
    queue: str = "default",
    priority: int = 0,
    entrypoint: str | None = None,
    payload: Payload = None,
    max_payload: int = 0,
) -> DeclaredSchedule:
    """A schedule whose every field was checked; `PgQueuer.schedule` and `ScheduleBook.add` document them.

    Raises:
        TypeError, ValueError: a field cannot be used; the message names it and its value.
        PayloadTooLarge: the payload is larger than `max_payload`.
    """
    written = cron.normal(expression)
    zone = cron.check_zone(timezone)
    job = check(NewJob(entrypoint=check_name("name", name), payload=payload), max_payload)
    return DeclaredSchedule(
        name=name,
        expression=written,
        timezone=zone,
        entrypoint=name if entrypoint is None else check_name("entrypoint", entrypoint),
        queue=check_name("queue", queue),
        priority=check_priority(priority),
        payload=job.payload,
        on_missed=_on_missed(on_missed),
        jitter=_jitter(jitter),
        clean_old=_switch("clean_old", clean_old),
    )


def _on_missed(on_missed: Any) -> OnMissed:
    if not isinstance(on_missed, str) or on_missed not in get_args(OnMissed):
        raise ValueError(f"on_missed={on_missed!r}: 'once', 'all' or 'skip' is accepted")
    checked: OnMissed = on_missed  # type: ignore[assignment]  # it is one of them
    return checked


def _switch(option: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{option}={value!r}: True or False is accepted")
    return value


def _jitter(jitter: object) -> timedelta | None:
    if jitter is None:
        return None
    seconds = in_seconds("jitter", jitter, most=_LONGEST_JITTER, otherwise=", or None for no delay")
    return timedelta(seconds=seconds) or None
