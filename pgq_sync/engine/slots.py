"""The running places: pool threads that take claimed jobs from one queue, and the account of how much room there is.

The pool's threads loop over a queue instead of being given one future per job: that costs half as much per job.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

from pgq_sync.engine.reservation import Reservation
from pgq_sync.entrypoints.context import Context
from pgq_sync.models import Claim, Claimed, JobId, Outcome, Room, Settlement

AHEAD = 0.2  # seconds of work to claim beyond the idle slots
MOST = 1_000  # jobs in one claim, and claimed ahead

Run = Callable[[Claim, Callable[[Context], None]], Outcome]


class Slot:
    """One running place. Its own thread writes it, but for `stuck`; others only read."""

    __slots__ = ("busy", "claim", "context", "finished", "since", "stuck")

    def __init__(self) -> None:
        self.claim: Claim | None = None
        self.context: Context | None = None
        self.since = 0.0  # when the running job began
        self.busy = 0.0  # seconds spent in finished jobs
        self.finished = 0
        self.stuck = False  # its job hangs: another one took its place, and its thread ends with that job

    def enter(self, context: Context) -> None:
        self.context = context


class Slots:
    """The slots of one worker.

    Args:
        size: how many jobs run at once.
        run: runs one attempt and never raises; given a callback for the attempt's context.
        done: takes what came out, in the slot's thread.
        on_room: called, in the slot's thread, when few enough jobs wait for new ones to be claimed.
        batch_size: the most jobs to claim at once; None: as many as the pool finishes in 0.2 s.
        max_stuck: how many further threads the pool may need.
        on_leave: called in each slot's thread at its end.
    """

    def __init__(
        self,
        size: int,
        run: Run,
        done: Callable[[Settlement], None],
        on_room: Callable[[], None],
        *,
        batch_size: int | None = None,
        max_stuck: int = 0,
        on_leave: Callable[[], None] = lambda: None,
    ) -> None:
        self._run = run
        self._done = done
        self._on_room = on_room
        self._batch_size = batch_size
        self._max_stuck = max_stuck
        self._on_leave = on_leave
        self._waiting: queue.SimpleQueue[Claim | None] = queue.SimpleQueue()
        self._reservation = Reservation(on_room)
        self._pool = ThreadPoolExecutor(size + max_stuck, thread_name_prefix="pgq-slot")
        self._lock = threading.Lock()  # of everything below
        self._slots = [Slot() for _ in range(size)]
        self._stuck: list[Slot] = []
        self._missing = 0  # slots that could not be replaced, for too many were stuck
        self._on_end: Callable[[], None] | None = None  # once closed
        self._handed = 0
        self._ahead = 0  # how many jobs to claim beyond the idle slots
        self._low_water = 0  # at so few waiting jobs it is time to claim again
        self._duration: float | None = None  # moving average of a job's seconds
        self._accounted = (0, 0.0)

    def start(self) -> None:
        for slot in self._slots:
            self._pool.submit(self._serve, slot)

    def hand(self, claimed: Claimed) -> None:
        """Gives claimed jobs to the slots, and frees those that were reserved in vain. Listener thread only."""
        with self._lock:
            self._handed += len(claimed)
        for claim in chain(self._reservation.fill(claimed.careful), claimed.plain):
            self._waiting.put(claim)

    def room(self, quarantine: bool = False) -> Room:
        """How many jobs to claim now: for the idle slots, and ahead as far as jobs are short."""
        with self._lock:
            self._account()
            in_flight = self._handed - sum(slot.finished for slot in self._slots)
            now = max(len(self._slots) - in_flight, self._reservation.kept)
            most = self._batch_size or MOST
            return Room(min(max(len(self._slots) + self._ahead - in_flight, now), most), min(now, most), quarantine)

    def reserve(self) -> None:
        """Has the next slot that finishes wait for a limited job, rather than take one that was claimed ahead."""
        self._reservation.want()

    def disown(self, claims: Sequence[Claim]) -> list[Claim]:
        """Asks jobs that are no longer ours to stop; returns those that have not started, and will not."""
        if not claims:
            return []
        lost = {(claim.job.id, claim.fence) for claim in claims}
        for slot in self.running():
            claim, context = slot.claim, slot.context
            if claim is not None and context is not None and (claim.job.id, claim.fence) in lost:
                context.cancelled.set()
        return self._sort_out(lambda claim: (claim.job.id, claim.fence) in lost)

    def take_back(self, most: int | None = None) -> list[Claim]:
        """Claimed jobs that have not started, at most so many; they will not start here any more."""
        with self._lock:
            taken = self._take(most)
            self._handed -= len(taken)
        return taken

    def give_back(self) -> list[Claim]:
        """What was claimed ahead while jobs were short, and is too much now that they are long: others may run it."""
        with self._lock:
            self._account()
            idle = sum(slot.claim is None for slot in self._slots)  # they are about to take what waits
            surplus = self._waiting.qsize() - idle - 2 * self._ahead
        return self.take_back(surplus) if surplus > 0 else []

    def withdraw(self, ids: Collection[JobId], outcome: Callable[[Claim], Outcome]) -> None:
        """Ends those of these jobs that have not started, with `outcome`."""
        # In one go: whoever closes the slots finds each claim in the queue or settled.
        self._sort_out(lambda claim: claim.job.id in ids, lambda claim: self._done(Settlement(claim, outcome(claim))))

    def _sort_out(self, unwanted: Callable[[Claim], bool], drop: Callable[[Claim], None] = lambda claim: None) -> list[Claim]:
        """Drops what is unwanted from the jobs that have not started, and returns it."""
        dropped = []
        with self._lock:
            # Once closed, nothing waits any more but the slots' own ends.
            for claim in self._take() if self._on_end is None else ():
                if unwanted(claim):
                    self._handed -= 1
                    drop(claim)
                    dropped.append(claim)
                else:
                    self._waiting.put(claim)
        return dropped

    def running(self) -> list[Slot]:
        """The slots that run a job, and those that are stuck in one."""
        with self._lock:
            return [slot for slot in (*self._slots, *self._stuck) if slot.claim is not None]

    @property
    def stuck(self) -> int:
        """How many threads hang in a job."""
        return len(self._stuck)

    def set_aside(self, slot: Slot) -> None:
        """Takes a slot whose job hangs out of the account. To be called while that job cannot end."""
        with self._lock:
            slot.stuck = True
            self._slots.remove(slot)
            self._stuck.append(slot)
            self._handed -= slot.finished + 1
            self._accounted = (self._accounted[0] - slot.finished, self._accounted[1] - slot.busy)

    def replace(self) -> bool:
        """Starts a slot in place of one that was set aside; False if too many are stuck for that until one ends."""
        with self._lock:
            closed, possible = self._on_end, len(self._stuck) <= self._max_stuck
            if closed is None and possible:
                self._add()
            elif closed is None:
                self._missing += 1
        if closed is not None:
            self._tell_end(closed)
        else:
            self._on_room()
        return possible

    def _add(self) -> None:
        slot = Slot()
        self._slots.append(slot)
        self._pool.submit(self._serve, slot)  # under the lock: a pool that was shut down takes nothing

    def close(self, on_end: Callable[[], None]) -> None:
        """Lets the running jobs finish and no others start; `on_end` is called when all have but those that hang."""
        with self._lock:
            self._on_end = on_end
            for _ in self._slots:
                self._waiting.put(None)
            self._pool.shutdown(wait=False)
        self._reservation.close()
        self._tell_end(on_end)

    def _tell_end(self, on_end: Callable[[], None]) -> None:
        if not self._slots:
            on_end()

    def _serve(self, slot: Slot) -> None:
        """What a thread of the pool does."""
        try:
            self._loop(slot)
        finally:
            with contextlib.suppress(Exception):
                self._on_leave()
            with self._lock:
                (self._stuck if slot.stuck else self._slots).remove(slot)
                closed, regained = self._on_end, slot.stuck and self._missing > 0
                if closed is None and regained:
                    self._missing -= 1
                    self._add()
            if closed is not None:
                self._tell_end(closed)
            elif regained:
                self._on_room()

    def _loop(self, slot: Slot) -> None:
        while not slot.stuck and (claim := (self._reservation.wanted and self._reservation.wait()) or self._waiting.get()):
            slot.since = started = time.monotonic()
            slot.claim = claim
            outcome = self._run(claim, slot.enter)
            slot.busy += time.monotonic() - started
            slot.finished += 1
            # First handed on, then forgotten: whoever asks for what runs must find it in one of the two places.
            self._done(Settlement(claim, outcome))
            slot.claim = slot.context = None
            del claim, outcome  # a thread may wait for long, and payload and result be large
            if self._waiting.qsize() <= self._low_water:
                self._on_room()

    def _take(self, most: int | None = None) -> list[Claim]:
        taken: list[Claim] = []
        try:
            while (most is None or len(taken) < most) and (claim := self._waiting.get_nowait()):
                taken.append(claim)
        except queue.Empty:
            pass
        return taken

    def _account(self) -> None:
        """Learns from what finished since the last time how far ahead to claim."""
        finished = sum(slot.finished for slot in self._slots)
        busy = sum(slot.busy for slot in self._slots)
        jobs, seconds = finished - self._accounted[0], busy - self._accounted[1]
        if jobs:
            self._accounted = (finished, busy)
            latest = seconds / jobs
            self._duration = latest if self._duration is None else self._duration + 0.3 * (latest - self._duration)
        if self._duration is None:
            return
        # Jobs that run long right now have not finished and tell the average nothing yet.
        now = time.monotonic()
        ages = [now - slot.since for slot in self._slots if slot.claim is not None]
        expected = max([self._duration, sum(ages) / len(ages)] if ages else [self._duration])
        self._ahead = min(int(AHEAD * len(self._slots) / max(expected, 1e-6)), MOST)
        self._low_water = self._ahead // 2
