"""The running places: pool threads that take claimed jobs from one queue, and the account of how much room there is.

The pool's threads loop over a queue instead of being given one future per job: that costs half as much per job.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain

from pgq_sync.entrypoints.context import Context
from pgq_sync.models import Claim, Claimed, JobId, Outcome, Room, Settlement

AHEAD = 0.2  # seconds of work to claim beyond the idle slots
MOST = 1_000  # jobs in one claim, and claimed ahead

Run = Callable[[Claim, Callable[[Context], None]], Outcome]


class Slot:
    """One running place. Its own thread writes it; the listener only reads."""

    __slots__ = ("busy", "claim", "context", "finished", "since")

    def __init__(self) -> None:
        self.claim: Claim | None = None
        self.context: Context | None = None
        self.since = 0.0  # when the running job began
        self.busy = 0.0  # seconds spent in finished jobs
        self.finished = 0

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
    ) -> None:
        self._run = run
        self._done = done
        self._on_room = on_room
        self._batch_size = batch_size
        self._waiting: queue.SimpleQueue[Claim | None] = queue.SimpleQueue()
        self._slots = [Slot() for _ in range(size)]
        self._pool = ThreadPoolExecutor(size + max_stuck, thread_name_prefix="pgq-slot")
        self._loops: list[Future[None]] = []
        self._lock = threading.Lock()  # of everything below
        self._closed = False
        self._handed = 0
        self._wanted = False  # whether the next slot that finishes is to wait for a limited job
        self._reserved = 0  # slots that do
        self._promised: queue.SimpleQueue[Claim | None] = queue.SimpleQueue()  # for them: a job, or leave to go on
        self._ahead = 0  # how many jobs to claim beyond the idle slots
        self._low_water = 0  # at so few waiting jobs it is time to claim again
        self._duration: float | None = None  # moving average of a job's seconds
        self._accounted = (0, 0.0)

    def start(self) -> None:
        self._loops = [self._pool.submit(self._loop, slot) for slot in self._slots]

    def hand(self, claimed: Claimed) -> None:
        """Gives claimed jobs to the slots, and frees those that were reserved in vain. Listener thread only."""
        with self._lock:
            self._handed += len(claimed)
            reserved, self._reserved = self._reserved, 0
        careful = list(claimed.careful)
        for _ in range(reserved):
            self._promised.put(careful.pop(0) if careful else None)
        for claim in chain(careful, claimed.plain):
            self._waiting.put(claim)

    def room(self, quarantine: bool = False) -> Room:
        """How many jobs to claim now: for the idle slots, and ahead as far as jobs are short."""
        with self._lock:
            self._account()
            in_flight = self._handed - sum(slot.finished for slot in self._slots)
            now = max(len(self._slots) - in_flight, self._reserved)
            most = self._batch_size or MOST
            return Room(min(max(len(self._slots) + self._ahead - in_flight, now), most), min(now, most), quarantine)

    def reserve(self) -> None:
        """Has the next slot that finishes wait for a limited job, rather than take one that was claimed ahead."""
        with self._lock:
            self._wanted = not self._closed

    def disown(self, claims: Sequence[Claim]) -> list[Claim]:
        """Asks jobs that are no longer ours to stop; returns those that have not started, and will not."""
        lost = {(claim.job.id, claim.fence) for claim in claims}
        if not lost:
            return []
        self._cancel(lost)
        waiting = self.take_back()
        ours = [claim for claim in waiting if (claim.job.id, claim.fence) not in lost]
        self.hand(Claimed(plain=ours))
        # What a slot has taken meanwhile is found by the second look.
        self._cancel(lost)
        return [claim for claim in waiting if (claim.job.id, claim.fence) in lost]

    def take_back(self, most: int | None = None) -> list[Claim]:
        """Claimed jobs that have not started, at most so many; they will not start here any more."""
        taken: list[Claim] = []
        try:
            while (most is None or len(taken) < most) and (claim := self._waiting.get_nowait()):
                taken.append(claim)
        except queue.Empty:
            pass
        with self._lock:
            self._handed -= len(taken)
        return taken

    def give_back(self) -> list[Claim]:
        """What was claimed ahead while jobs were short, and is too much now that they are long: others may run it."""
        with self._lock:
            self._account()
            surplus = self._waiting.qsize() - 2 * self._ahead
        return self.take_back(surplus) if surplus > 0 else []

    def close(self, on_end: Callable[[], None]) -> None:
        """Lets the running jobs finish and no others start; `on_end` is called when all have."""
        unfinished = [len(self._loops)]
        lock = threading.Lock()

        def ended(loop: Future[None]) -> None:
            with lock:
                unfinished[0] -= 1
                last = unfinished[0] == 0
            if last:
                on_end()

        with self._lock:
            self._closed, self._wanted = True, False
        self.hand(Claimed())
        for loop in self._loops:
            loop.add_done_callback(ended)
            self._waiting.put(None)
        self._pool.shutdown(wait=False)

    def cancel_running(self) -> list[Claim]:
        """Asks the running jobs to stop, and tells which they are."""
        running = []
        for slot in self._slots:
            claim, context = slot.claim, slot.context
            if claim is not None:
                running.append(claim)
                if context is not None:
                    context.cancelled.set()
        return running

    def _cancel(self, claims: set[tuple[JobId, int]]) -> None:
        for slot in self._slots:
            claim, context = slot.claim, slot.context
            if claim is not None and context is not None and (claim.job.id, claim.fence) in claims:
                context.cancelled.set()

    def _loop(self, slot: Slot) -> None:
        while (claim := (self._wanted and self._promise()) or self._waiting.get()) is not None:
            slot.since = started = time.monotonic()
            slot.claim = claim
            outcome = self._run(claim, slot.enter)
            slot.busy += time.monotonic() - started
            slot.finished += 1
            # First handed on, then forgotten: whoever asks for what runs must find it in one of the two places.
            self._done(Settlement(claim, outcome))
            slot.claim = slot.context = None
            if self._waiting.qsize() <= self._low_water:
                self._on_room()

    def _promise(self) -> Claim | None:
        """The limited job that the listener now claims for this slot; None if there is none."""
        with self._lock:
            if not self._wanted:
                return None
            self._wanted = False
            self._reserved += 1
        self._on_room()
        return self._promised.get()

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
