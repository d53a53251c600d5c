"""A clock for the times of jobs, which a test moves by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone

from pgq_sync.app import PgQueuer


class MovableClock:
    """A clock that stands still until it is moved, and never goes back. Any thread may read it.

    Args:
        start: what it says at first: an aware datetime.
        on_move: called after each move.

    Raises:
        TypeError, ValueError: `start` is no aware datetime.
    """

    def __init__(self, start: datetime, on_move: Callable[[], object] = lambda: None) -> None:
        self.started_at = self._now = _aware("start", start)
        self._on_move = on_move

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {self._now.isoformat()}>"

    def now(self) -> datetime:
        """What it says, in UTC."""
        return self._now

    __call__ = now

    def advance(self, by: timedelta | float) -> datetime:
        """Moves it on, and has running workers look at once for what has become due.

        Args:
            by: how far, as a timedelta or in seconds.

        Returns:
            What it says then.

        Raises:
            TypeError: `by` is neither.
            ValueError: it is negative, or not finite.
        """
        return self.move_to(self._now + _forward(by))

    def move_to(self, moment: datetime) -> datetime:
        """Moves it to `moment`, as `advance` does.

        Raises:
            TypeError, ValueError: `moment` is no aware datetime, or lies before what the clock says.
        """
        later = _aware("moment", moment)
        if later < self._now:
            raise ValueError(f"moment={moment.isoformat()} is before {self._now.isoformat()}: the clock moves forward only")
        self._now = later
        self._on_move()
        return later


@contextmanager
def clock(pgq: PgQueuer, start: datetime | None = None) -> Iterator[MovableClock]:
    """Has every time that `pgq` writes or compares in its rows come from a clock that the test moves.

    That is when jobs are due, claimed, finished and tried again, schedules fire and tokens of limits flow. Durations are
    measured as ever: timeouts, polls, signs of life, and limits of the scope "worker". The clock belongs to this process:
    no other one may work on the same database meanwhile. A job that `pgq_enqueue` enqueues in SQL has the database's time.

    Args:
        pgq: the application.
        start: what the clock says at first, an aware datetime; by default what its store's own clock says.

    Raises:
        TypeError, ValueError: `start` is no aware datetime.
    """
    made = MovableClock(pgq.store.operations().now() if start is None else start, lambda: pgq.backend.look())
    try:
        with pgq.backend.clock.replaced(made):
            pgq.backend.look()
            yield made
    finally:
        pgq.backend.look()


def _aware(name: str, moment: object) -> datetime:
    if not isinstance(moment, datetime):
        raise TypeError(f"{name}={moment!r} must be an aware datetime, not {type(moment).__name__}")
    if moment.utcoffset() is None:
        raise ValueError(f"{name}={moment.isoformat()} has no time zone: pass an aware datetime, as datetime(..., tzinfo=utc)")
    return moment.astimezone(timezone.utc)


def _forward(by: object) -> timedelta:
    if isinstance(by, timedelta):
        duration = by
    elif isinstance(by, (int, float)) and not isinstance(by, bool):
        if not math.isfinite(by):
            raise ValueError(f"by={by!r}: a finite number of seconds is accepted")
        duration = timedelta(seconds=by)
    else:
        raise TypeError(f"by={by!r}: a timedelta or a number of seconds is accepted, not {type(by).__name__}")
    if duration < timedelta():
        raise ValueError(f"by={by!r}: the clock moves forward only")
    return duration
