"""What a notification says, and how to follow them on a connection of one's own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import psycopg

_LONGEST_DELAY = 60.0  # seconds; what is due later is not announced
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True, slots=True)
class LaneNotice:
    """A lane that a notification names."""

    queue: str
    entrypoint: str
    priority: int
    delay: float  # seconds until its first job is due
    earliest: datetime  # execute_after of that job

    @classmethod
    def parse(cls, lane: Sequence[Any]) -> LaneNotice:
        queue, entrypoint, priority, delay, earliest = lane
        # Whoever may connect may notify.
        if not (isinstance(queue, str) and isinstance(entrypoint, str) and type(priority) is int and -32768 <= priority <= 32767):
            raise ValueError(f"no lane: {lane!r}")
        if not 0 <= delay <= _LONGEST_DELAY:
            raise ValueError(f"no delay: {delay!r}")
        return cls(queue, entrypoint, priority, delay, _EPOCH + timedelta(seconds=earliest))


@dataclass(frozen=True, slots=True)
class Notice:
    """A notification: jobs became ready, or will soon."""

    number: int  # picks the worker that looks first
    jobs: int
    lanes: Sequence[LaneNotice] | None  # None: any lane


def parse(message: str) -> Notice:
    """The meaning of a notification's text, which the SQL function `announce` wrote.

    Raises:
        ValueError: the text is somebody else's.
    """
    try:
        number, jobs, *lanes = json.loads(message)
        named = [LaneNotice.parse(lane) for lane in lanes[0]] if lanes else None
        return Notice(int(number), int(jobs), named)
    except (TypeError, ValueError, IndexError, OverflowError) as error:
        raise ValueError(f"not one of pgq-sync's notifications: {message!r}") from error


def listened(
    connection: psycopg.Connection[Any], *, timeout: float | None = None, count: int | None = None
) -> Iterator[dict[str, Any]]:
    """The notifications that arrive on a listening connection, as plain data.

    Args:
        connection: one that has run LISTEN.
        timeout: end after so many seconds; None: never.
        count: end after so many notifications; None: never.
    """
    for notification in connection.notifies(timeout=timeout, stop_after=count):
        try:
            notice = parse(notification.payload)
        except ValueError:
            yield {"unknown": notification.payload}
            continue
        lanes = notice.lanes
        yield {
            "number": notice.number,
            "jobs": notice.jobs,
            "lanes": "all"
            if lanes is None
            else [
                {
                    "queue": lane.queue,
                    "entrypoint": lane.entrypoint,
                    "priority": lane.priority,
                    "delay": lane.delay,
                    "earliest": lane.earliest.isoformat(),
                }
                for lane in lanes
            ],
        }
