"""Looks after running attempts, in a thread of its own: their deadlines, hung threads, transactions left open.

Wakes at the next deadline, or every second. It never waits for the database: a deadline comes whether that answers or not.
"""

from __future__ import annotations

import logging
import math
import sys
import threading
import time
import traceback
from collections.abc import Callable

from pgq_sync.engine.attempt import Attempt
from pgq_sync.engine.guard import Guard
from pgq_sync.engine.slots import Slot, Slots

logger = logging.getLogger("pgq_sync.engine")

GRACE = 5.0  # seconds from the deadline until a thread counts as stuck
_ROUND = 1.0  # seconds between two looks when no deadline is near
_SOON = 0.005  # until a handler that had better not be stopped where it is gets to another place
_LONG_TRANSACTION = 30.0
_FRAMES = 3  # of a stuck thread that are told


class Watchdog:
    """Ends the time of attempts, and replaces the slots of those that do not end by that.

    Args:
        on_too_many: called, once, when more threads are stuck than can be replaced.
        grace: how many seconds after its deadline a thread counts as stuck.
    """

    def __init__(self, on_too_many: Callable[[], None], grace: float = GRACE) -> None:
        self._on_too_many = on_too_many
        self._grace = grace
        self._wake = threading.Event()
        self._next = math.inf  # when the thread looks again, by the monotonic clock
        self._gave_up = False

    def watch(self, slots: Slots) -> None:
        """Gives it the slots that it looks after; before its thread starts."""
        self._slots = slots

    def expect(self, deadline: float) -> None:
        """An attempt with this deadline has begun. From the slots' threads."""
        if deadline < self._next:
            self._wake.set()

    def wake(self) -> None:
        """Has the thread look at once: at the slots, and whether it is to end."""
        self._wake.set()

    def run(self, stopping: threading.Event) -> None:
        """The thread."""
        while not stopping.is_set():
            self._wake.clear()
            # Whoever begins while this thread looks is not seen, and must wake it.
            self._next = math.inf
            self._next = self._look()
            self._wake.wait(max(self._next - time.monotonic(), 0))

    def _look(self) -> float:
        """One round; tells when the next is due."""
        now = time.monotonic()
        due = [now + _ROUND]
        for slot in self._slots.running():
            attempt = slot.context
            if isinstance(attempt, Attempt):
                due.append(self._look_after(slot, attempt, now))
        return min(due)

    def _look_after(self, slot: Slot, attempt: Attempt, now: float) -> float:
        """Does what is due for one attempt; tells when there will be more to do."""
        self._warn_of_transaction(attempt, now)
        guard = attempt.guard
        if guard is None:
            return math.inf
        if now < guard.deadline:
            return guard.deadline
        if not guard.fired:
            attempt.end_time()
        stuck_at = guard.deadline + self._grace
        if now < stuck_at:
            return stuck_at if guard.fired else min(now + _SOON, stuck_at)
        if not slot.stuck:
            self._replace(slot, attempt, guard, now)
        return math.inf

    def _replace(self, slot: Slot, attempt: Attempt, guard: Guard, now: float) -> None:
        place = ""

        def set_aside(thread: int) -> None:
            nonlocal place
            place = _place(thread)
            self._slots.set_aside(slot)

        if not guard.while_armed(set_aside):
            return
        job = attempt.job
        logger.error(
            "job %s of %s is stuck: it has run for %.1f s with a timeout of %g s, and hangs in %s",
            *(job.id, job.entrypoint, now - attempt.started, guard.timeout, place),
            extra={"job_id": job.id, "entrypoint": job.entrypoint},
        )
        if not self._slots.replace() and not self._gave_up:
            self._gave_up = True
            logger.error("%s threads are stuck, more than max_stuck: this worker needs a new process", self._slots.stuck)
            self._on_too_many()

    def _warn_of_transaction(self, attempt: Attempt, now: float) -> None:
        since = attempt.in_transaction_since
        if since is None or attempt.warned or now - since < _LONG_TRANSACTION:
            return
        attempt.warned = True
        job = attempt.job
        logger.warning(
            "the transaction of job %s of %s has been open for %.0f s: it keeps dead rows from being vacuumed",
            *(job.id, job.entrypoint, now - since),
            extra={"job_id": job.id, "entrypoint": job.entrypoint},
        )


def _place(thread: int) -> str:
    """Where a thread is, its innermost frame first."""
    frame = sys._current_frames().get(thread)
    if frame is None:
        return "an unknown place"
    innermost = reversed(traceback.extract_stack(frame, limit=_FRAMES))
    return ", called from ".join(f"{each.name} ({each.filename}:{each.lineno})" for each in innermost)
