"""What a claimer must know of the lanes without looking, at the least: from this follows which jobs it may not miss."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from tests.storage.machine.rows import Lane, Row

_POLL_INTERVAL = timedelta(seconds=5)
_BUSY_LOOK = timedelta(seconds=1)


class Knowledge:
    """Of one claimer.

    Args:
        all_known: the store has no need to look.
    """

    def __init__(self, all_known: bool) -> None:
        self._all_known = all_known
        self._look_by: datetime | None = None  # by then it looks everywhere; None: at the next claim
        self._ask_by: datetime | None = None  # by then it asks the lanes that it has worked in; None: there are none
        self._worked: set[Lane] = set()
        self._awake: set[Lane] = set()
        self._asleep: dict[Lane, datetime] = {}  # until when

    def heard_of(self, row: Row) -> None:
        """A notification has named the lane of a job; it does not tell whether that one is in quarantine."""
        lane = (row.queue, row.entrypoint, row.priority, False)
        # The server believes that it is due (worlds.START), and so the claimer forgets when it will be.
        self._asleep.pop(lane, None)
        self._awake.add(lane)

    def heard_of_everything(self) -> None:
        """A notification has named no lane: anything may have changed."""
        self._look_by = None

    def before_claim(self, queued: Iterable[Row], now: datetime, thorough: bool) -> None:
        """The claimer looks if it is time to.

        Args:
            queued: all jobs that its worker may claim, now or later.
            now: what time it is.
            thorough: it looks anyway.
        """
        if thorough or self._look_by is None or now >= self._look_by:
            self._look(queued, now)
        elif self._ask_by is not None and now >= self._ask_by:
            self._ask(queued, now)
        for lane in [lane for lane, until in self._asleep.items() if until <= now]:
            del self._asleep[lane]
            self._awake.add(lane)

    def _look(self, queued: Iterable[Row], now: datetime) -> None:
        self._look_by, self._ask_by = now + _POLL_INTERVAL, None
        self._worked.clear()
        self._awake.clear()
        self._asleep.clear()
        self._find(queued, now)

    def _ask(self, queued: Iterable[Row], now: datetime) -> None:
        worked, self._worked, self._ask_by = self._worked, set(), None
        self._awake -= worked
        for lane in worked:
            self._asleep.pop(lane, None)
        self._find((row for row in queued if row.lane in worked), now)

    def _find(self, queued: Iterable[Row], now: datetime) -> None:
        for row in queued:
            if row.execute_after <= now:
                self._awake.add(row.lane)
            else:
                self._asleep[row.lane] = min(row.execute_after, self._asleep.get(row.lane, row.execute_after))

    def knows(self, row: Row) -> bool:
        """Whether a claim that leaves room may not miss the job, if it is due."""
        return self._all_known or row.lane in self._awake

    def claimed(self, lanes: Iterable[Lane], *, careful: bool, room_left: bool, now: datetime) -> None:
        """A claim brought jobs of these lanes, some of them with care or none, there being room for more or not."""
        if careful and self._look_by is not None:
            self._look_by = min(self._look_by, now + _BUSY_LOOK)
        if room_left:
            # It has taken all that was due. What these lanes hold next is found by the next look.
            self._worked |= self._awake
            self._awake.clear()
        self._worked.update(lanes)
        if self._worked and self._ask_by is None:
            self._ask_by = now + _BUSY_LOOK
