"""The schedules as an operator sees them: `pgq.schedules`."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from pgq_sync.models import JobId, Payload, ScheduleRecord
from pgq_sync.storage import cron
from pgq_sync.storage.declaring import ScheduleOptions, check_schedule
from pgq_sync.storage.intake import check_name, refuse_unknown
from pgq_sync.storage.producer import DEFAULT_QUEUE
from pgq_sync.storage.scheduling import Schedules

if TYPE_CHECKING:
    from typing_extensions import Unpack

Records = list[ScheduleRecord]
Names = list[str]


@runtime_checkable
class Callee(Protocol):
    """A task, as it is seen from here."""

    @property
    def name(self) -> str: ...

    def payload(self, *args: Any, **kwargs: Any) -> bytes: ...

    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...


class ScheduleBook:
    """Lists, adds and steers schedules, those of the code too. Running workers see every change within a second.

    Args:
        schedules: of the store.
        max_payload: the largest payload, in bytes.
        queue_of: the queue that an entrypoint was declared with, if any.
    """

    def __init__(self, schedules: Schedules, max_payload: Callable[[], int], queue_of: Callable[[str], str | None]) -> None:
        self._schedules = schedules
        self._max_payload = max_payload
        self._queue_of = queue_of

    def list(self) -> Records:
        """Every schedule, one record per name and expression, in their order."""
        return self._schedules.records()

    def find(self, name: str) -> Records:
        """The schedules of a name, one per expression.

        Raises:
            ValueError: there is no such schedule.
        """
        return self._found(name, None)

    def add(
        self,
        name: str,
        expression: str,
        *,
        entrypoint: str | Callee | None = None,
        payload: Payload = None,
        **options: Unpack[ScheduleOptions],
    ) -> ScheduleRecord:
        """Adds a schedule, or changes the one that has this name and this expression.

        One that the code declares too is as the code has it again when the next worker starts.

        Args:
            name: of the schedule.
            expression: as of `PgQueuer.schedule`, and so the options: timezone, on_missed, jitter, priority, and queue, which
                is by default the one that the entrypoint was declared with.
            entrypoint: whose ordinary jobs its ticks are, by its name, or a task; by default the one of the schedule's name.
            payload: of each of these jobs; of a task what its `payload(...)` returns, by default that of a call without
                arguments.

        Returns:
            How it stands.

        Raises:
            TypeError, ValueError: a value cannot be used; the message names it and what is accepted.
            PayloadTooLarge: the payload is larger than the setting `max_payload`.
        """
        refuse_unknown(options, ScheduleOptions.__annotations__)
        if isinstance(entrypoint, Callee):
            payload = entrypoint.payload() if payload is None else payload
            entrypoint = entrypoint.name
        schedule = check_schedule(
            name, expression, entrypoint=entrypoint, payload=payload, max_payload=self._max_payload(), **options
        )
        if schedule.queue == DEFAULT_QUEUE and (declared := self._queue_of(schedule.entrypoint)):
            schedule = replace(schedule, queue=declared)
        return self._schedules.put(schedule)

    def pause(self, name: str, expression: str | None = None) -> int:
        """Has a schedule fire no more until `resume`, however often workers are restarted. Jobs that wait or run go on.

        Args:
            name: of the schedule.
            expression: only this one of its expressions.

        Returns:
            How many of its expressions were not paused before.

        Raises:
            ValueError: there is no such schedule.
        """
        return self._schedules.pause(name, self._expressions(name, expression))

    def resume(self, name: str, expression: str | None = None) -> int:
        """Takes back a pause. The schedule goes on with its next tick: those of the pause were not missed.

        Returns:
            How many of its expressions were paused.

        Raises:
            ValueError: there is no such schedule.
        """
        return self._schedules.resume(name, self._expressions(name, expression))

    def remove(self, name: str, expression: str | None = None) -> int:
        """Removes a schedule. One that the code declares comes back when the next worker starts: pause it instead.

        Returns:
            How many expressions were removed.

        Raises:
            ValueError: there is no such schedule.
        """
        return self._schedules.remove(name, self._expressions(name, expression))

    def run_now(self, name: str, expression: str | None = None) -> JobId:
        """Enqueues one job of a schedule at once, paused or not; its own times stay as they are.

        Args:
            name: of the schedule.
            expression: which of its expressions; by default the one that is due next.

        Raises:
            ValueError: there is no such schedule.
        """
        found = min(self._found(name, expression), key=lambda each: each.next_at)
        job_id = self._schedules.run_now(name, found.expression)
        if job_id is None:
            raise ValueError(f"schedule {name!r} was removed just now")
        return job_id

    def _expressions(self, name: str, expression: str | None) -> Names:
        return [each.expression for each in self._found(name, expression)]

    def _found(self, name: str, expression: str | None) -> Records:
        """The schedules of this name, or the one with this expression."""
        known = self._schedules.records(check_name("name", name))
        if not known:
            raise ValueError(f"there is no schedule {name!r}; {self._others(name)}")
        if expression is None:
            return known
        if not isinstance(expression, str):
            raise TypeError(f"expression={expression!r} must be a str, not {type(expression).__name__}")
        # As it stands there too: one that was edited by hand may be written in any way.
        found = [each for each in known if each.expression in (expression, cron.spelled(expression))]
        if not found:
            raise ValueError(
                f"schedule {name!r} has no expression {expression!r}; it has {', '.join(repr(each.expression) for each in known)}"
            )
        return found

    def _others(self, name: str) -> str:
        names = sorted({each.name for each in self._schedules.records()})
        close = difflib.get_close_matches(name, names, n=3)
        if close:
            return f"did you mean {' or '.join(map(repr, close))}?"
        return f"there are {', '.join(names[:10])}{' and others' if names[10:] else ''}" if names else "there are none"
