"""When a listener looks for lanes: everywhere, or only into those that it has worked in. Used by the listener thread alone.

A full look costs a server the more, the more lanes there are (some 12 us each) and the more dead entries a transaction keeps
in their index. Where it is cheap it is made each second while there is work, and else the rarer, so that it takes about a
hundredth of one core. Times are of the monotonic clock.
"""

from __future__ import annotations

BUSY_LOOK = 1.0  # seconds until a look while there is work,
SOON_LOOK = 0.02  # and into lanes of deferred jobs, where the next one may be due; doubled where nothing came of the last one
_SHARE = 0.01  # of a core's time, for the looks of an idle worker,
_BUSY_SHARE = 0.05  # of one that has limited jobs, or hears no notifications
_CALLED_SHARE = 0.2  # and at most, when notifications call for them
CHEAP = 0.005  # seconds: a full look that costs no more is made whenever there is a reason
RAREST = 60.0  # seconds: what is due within a minute is told, and needs no look


class Looks:
    """The next looks.

    Args:
        poll_interval: seconds between two full ones when nothing happens, unless they cost too much.
    """

    def __init__(self, poll_interval: float) -> None:
        self.hears = True  # whether notifications arrive; else only looks find what is new
        self._poll_interval = poll_interval
        self._last = 0.0  # when the last full one ended
        self._cost = 0.0  # its seconds
        self.full = 0.0  # when the next full one is due
        self.brief: float | None = None  # when the next one is due into the lanes that were worked in,
        self.soon: float | None = None  # and before that into those of deferred jobs
        self._soon_after = SOON_LOOK

    def next(self) -> float:
        """When the next one is due."""
        return min(each for each in (self.full, self.brief, self.soon) if each is not None)

    def looked(self, ended: float, cost: float) -> None:
        """A full one was made, which has taken the server so many seconds."""
        self._last, self._cost, self.brief, self.soon = ended, cost if cost > CHEAP else 0.0, None, None
        share = _SHARE if self.hears else _BUSY_SHARE
        self.full = ended + max(self._poll_interval, min(self._cost / share, RAREST))

    def worked(self, now: float, *, deferred: bool = False, in_vain: bool = False) -> None:
        """Jobs were claimed: what there is next is to be found out soon; at once, nearly, where that may be deferred.

        Args:
            now: when.
            deferred: lanes were emptied in which others may be deferred.
            in_vain: the claim brought nothing: what was believed to be there may be locked by somebody.
        """
        self._soon_after = min(self._soon_after * 2, BUSY_LOOK) if in_vain else SOON_LOOK
        if deferred and self.soon is None:
            self.soon = now + self._soon_after
        if not self.hears or not self._cost:
            self.worked_carefully(now)
        elif self.brief is None:
            self.brief = now + BUSY_LOOK

    def worked_carefully(self, now: float) -> None:
        """A full look is due soon: brief ones find nothing of what others had locked, or enqueued without a notification."""
        self.call(max(now + BUSY_LOOK, self._last + self._cost / _BUSY_SHARE))

    def call(self, moment: float) -> None:
        """A full look is due then, or as soon as it may be afforded."""
        self.full = min(self.full, max(moment, self._last + self._cost / _CALLED_SHARE))
