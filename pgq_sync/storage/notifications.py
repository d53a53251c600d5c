"""What a notification says, and how to follow them on a connection of one's own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from typing import Annotated, Any

import msgspec
import psycopg

from pgq_sync.storage.names import Names
from pgq_sync.storage.statements import statements

CANCEL = "cancel"
SCHEDULES = "schedules"
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
# Whoever may connect may notify: what is outside of these is somebody else's message.
_Priority = Annotated[int, msgspec.Meta(ge=-32768, le=32767)]
_Delay = Annotated[float, msgspec.Meta(ge=0, le=60)]
_Moment = Annotated[float, msgspec.Meta(ge=-62_135_510_400, le=253_402_128_000)]  # as the table's check has it
_Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class LaneNotice(msgspec.Struct, frozen=True, array_like=True):
    """A lane that a notification names."""

    queue: str
    entrypoint: str
    priority: _Priority
    delay: _Delay  # seconds from the enqueuing statement until its first job is due
    due_at: _Moment  # execute_after of that job, in Unix time

    @property
    def earliest(self) -> datetime:
        """From when on there is something in the lane."""
        return _EPOCH + timedelta(seconds=self.due_at)


class Notice(msgspec.Struct, frozen=True, array_like=True):
    """A notification: jobs became ready, or will soon."""

    number: _Number  # picks the worker that looks first
    jobs: _Number
    lanes: Sequence[LaneNotice] | None = None  # None: any lane
    kind: str = ""  # or CANCEL: jobs were asked to end; SCHEDULES: schedules were changed


_decoder = msgspec.json.Decoder(Notice)


def parse(message: str) -> Notice:
    """The meaning of a notification's text, which the SQL function `announce` wrote.

    Raises:
        ValueError: the text is somebody else's.
    """
    try:
        if "\\u0000" in message:  # or what looks like it
            raise ValueError("no name of ours has a NUL, which no statement could send back")
        return _decoder.decode(message)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not one of pgq-sync's notifications: {message!r}") from error


def subscribe(connection: psycopg.Connection[Any], names: Names) -> str:
    """Has `connection` hear the notifications of an installation; returns the channel's name."""
    # Asked for, since a schema that is named here may have been found on the search_path at the install.
    ((channel,),) = connection.execute(statements(names)["channel"].encode())
    connection.execute(f'listen "{channel}"'.encode())
    return str(channel)


def subscribe_own(connection: psycopg.Connection[Any], channel: str) -> str:
    """Has a connection that hears `channel` hear one of its own too, which it returns."""
    own = f"{channel}_{connection.info.backend_pid}"
    connection.execute(f'listen "{own}"'.encode())
    return own


def listened(
    connection: psycopg.Connection[Any], *, timeout: float | None = None, count: int | None = None
) -> Iterator[dict[str, Any]]:
    """The notifications that arrive on a listening connection, as plain data.

    Args:
        connection: one that was given to `subscribe`.
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
