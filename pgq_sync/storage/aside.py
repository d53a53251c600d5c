"""Schedules that could not be fired: logged once, and left alone for a while, so that they cost nobody else its ticks."""

from __future__ import annotations

import logging
import time

from pgq_sync.models import ScheduleRecord

logger = logging.getLogger("pgq_sync.engine")

_AGAIN = 60.0  # seconds: the machine may learn of a time zone, a trigger may be mended
Key = tuple[str, str, str]  # name, expression, time zone: whoever mends one of these is not kept waiting


class Aside:
    """What one process has put aside. Used by one thread."""

    def __init__(self) -> None:
        self._until: dict[Key, float] = {}
        self._logged: set[tuple[Key, str]] = set()

    def put(self, schedule: ScheduleRecord, error: Exception) -> None:
        """Leaves a schedule alone, which has failed by this error."""
        key = schedule.name, schedule.expression, schedule.timezone
        self._until[key] = time.monotonic() + _AGAIN
        if (key, str(error)) not in self._logged:
            self._logged.add((key, str(error)))
            logger.error("the schedule %s (%s) does not fire: %s", schedule.name, schedule.expression, error)

    def keys(self) -> list[Key]:
        """Those to be left alone now."""
        now = time.monotonic()
        self._until = {key: until for key, until in self._until.items() if until > now}
        return list(self._until)

    def sooner(self, seconds: float | None) -> float | None:
        """`seconds`, or what is left until one of them is to be tried again, whichever is less."""
        left = [max(until - time.monotonic(), 0.0) for until in self._until.values()]
        return min(left if seconds is None else [seconds, *left], default=None)
