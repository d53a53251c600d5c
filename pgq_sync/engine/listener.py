"""THE HOT PATH: waits for jobs, claims what there is room for, hands it to the slots. One thread, one connection."""

from __future__ import annotations

import logging
import math
import random
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import timedelta

from pgq_sync.engine.completer import Completer
from pgq_sync.engine.limits import LocalLimits
from pgq_sync.engine.slots import Slots
from pgq_sync.errors import StoreUnavailable
from pgq_sync.models import Claim, Claimed, Peers, QueueExecutionMode, Room, Settlement, WorkerInfo
from pgq_sync.storage.claiming import Claimer
from pgq_sync.storage.store import Store

logger = logging.getLogger("pgq_sync.engine")

QUARANTINE = 2  # rescues from which on a job runs alone among its like
_FIRST_DELAY = 0.1
_LATE_CLAIM = 60.0  # seconds within which a claim that was sent over a lost connection may still be carried out
_LOCKED = 1.0  # seconds until a claim is looked at again that is to be put back, and that somebody has locked
_LONGEST_DELAY = 5.0  # seconds between two attempts to connect: well below the limit of a worker's liveness


class Listener:
    """Keeps the slots busy.

    Args:
        store: where jobs are claimed.
        worker: for whom.
        limits: how much of the limited entrypoints runs here.
        poll_interval: how often to look without having been notified.
        mode: drain ends the thread when nothing is claimable and everything claimed is written.
        max_jobs: end after so many, too.
        on_end: called when the thread ends by itself.
    """

    def __init__(
        self,
        store: Store,
        worker: WorkerInfo,
        limits: LocalLimits,
        poll_interval: timedelta,
        mode: QueueExecutionMode,
        max_jobs: int | None,
        on_end: Callable[[], None],
    ) -> None:
        self.listening = threading.Event()  # set once jobs enqueued from now on will be noticed
        self._store = store
        self._worker = worker
        self._limits = limits
        self._poll_interval = poll_interval
        self._draining = mode is QueueExecutionMode.drain
        self._max_jobs = max_jobs
        self._claimed = 0  # written by the listener thread
        self._claims = False  # whether the present connection has brought jobs
        self._given_back = 0  # written by the keeper's
        self._on_end = on_end
        self._claimer: Claimer | None = None
        self._recover_again = math.inf
        self._recovered = True  # whether nothing is left that was claimed over a lost connection
        self._doubted = False  # whether a claim that failed has not been looked after yet
        self._peers = Peers()
        self._throttled = False
        self._ended: deque[str] = deque()  # the entrypoints of limited jobs that have ended; filled by other threads
        self._quarantined: Claim | None = None  # the latest: a second one waits until its outcome is written
        self._said_deaf = False
        self._looks = False  # whether to look everywhere; set by other threads
        # Whether there may be jobs that were claimed without the answer having arrived; told once the thread has ended.
        self.in_doubt = False

    def serve(
        self,
        slots: Slots,
        completer: Completer,
        on_connected: Callable[[Claimer], None],
        on_cancel: Callable[[], None],
        on_schedules: Callable[[], None],
    ) -> None:
        """Gives the listener those that it works for, and whom to tell; before its thread starts."""
        self._slots = slots
        self._completer = completer
        self._on_connected = on_connected
        self._on_news = on_cancel, on_schedules

    def run(self, stopping: threading.Event) -> None:
        """The thread."""
        delay, reconnected = _FIRST_DELAY, False
        while not stopping.is_set():
            connected, self._claims = time.monotonic(), False
            try:
                self.in_doubt = True
                with self._store.claimer(self._worker, self._poll_interval, self._limits, *self._on_news) as claimer:
                    self._serve(claimer, stopping)
                    self.in_doubt = self._doubted or (reconnected and not self._recovered)
                    break
            except StoreUnavailable as error:
                reconnected = True
                logger.warning("the listener lost the database and connects again: %s", error)
                self._slots.hand(Claimed())  # no slot is kept waiting for a limited job meanwhile
                # A server that takes connections and then refuses to work, a standby say, is not asked all the time.
                well = self._claims or time.monotonic() - connected > _LONGEST_DELAY
                delay = _FIRST_DELAY if well else min(delay * 2, _LONGEST_DELAY)
                stopping.wait(delay * random.uniform(0.5, 1.5))
            except BaseException:
                self.in_doubt = True
                raise
            finally:
                self._claimer = None
                self.listening.clear()
        if not stopping.is_set():
            self._on_end()

    def _serve(self, claimer: Claimer, stopping: threading.Event) -> None:
        self._claimer = claimer
        claimer.peers = self._peers
        self._on_connected(claimer)
        if not claimer.hears and not self._said_deaf:
            self._said_deaf = True
            logger.warning(
                "notifications do not reach this worker (a pooler stands before the database?): it looks for jobs every %g s; "
                "name the database itself in listen_dsn for jobs to start at once",
                self._poll_interval.total_seconds(),
            )
        self._recover(claimer)
        self.listening.set()
        self._cycle(claimer, stopping)

    def _recover(self, claimer: Claimer) -> None:
        """Compares what is held here with the store, once a lost connection is replaced."""
        held = self._completer.held()
        recovered = claimer.recover(held)
        # What is finished meanwhile is not among those; the others were rescued by somebody, and run elsewhere.
        self._completer.abandon(self._slots.disown(self._completer.still_held(recovered.lost)))
        self._doubted = self._doubted and not recovered.complete
        self._recovered = claimer.exclusive and recovered.complete
        again = _LATE_CLAIM if recovered.complete else _LOCKED
        self._recover_again = math.inf if self._recovered else time.monotonic() + again

    def wake(self) -> None:
        """There may be room, or nothing left to do. From any thread."""
        claimer = self._claimer
        if claimer is not None:
            claimer.wake()

    def look(self) -> None:
        """What is due, or has room, may have changed everywhere: the store's clock was moved. From any thread."""
        self._looks = True
        self.wake()

    def written(self, settlements: Sequence[Settlement]) -> None:
        """A batch of outcomes was written: it matters to limits, to a drain, and where that was waited for."""
        if ended := self._limits.ended(each.claim.job.entrypoint for each in settlements):
            self._ended.extend(ended)
            self.wake()
        elif self._draining or self._max_jobs is not None or self._throttled or self._quarantined:
            self.wake()

    def given_back(self, jobs: int) -> None:
        """Claimed jobs were given back unstarted, and do not count as done."""
        self._given_back += jobs

    def cancel(self) -> None:
        """Cuts off a statement that the listener waits for."""
        claimer = self._claimer
        if claimer is not None:
            claimer.cancel()

    def set_peers(self, peers: Peers) -> None:
        """Takes over the worker's place in the fleet."""
        self._peers = peers
        claimer = self._claimer
        if claimer is not None:
            claimer.peers = peers

    def _cycle(self, claimer: Claimer, stopping: threading.Event) -> None:
        while not stopping.is_set():
            # Before looking: whatever happens from here on ends the next wait.
            claimer.arm()
            if stopping.is_set():
                return
            if self._ended:
                claimer.ended([self._ended.popleft() for _ in range(len(self._ended))])
            if time.monotonic() >= self._recover_again:
                self._recover(claimer)
            room = self._room()
            thorough, self._looks = self._looks, False
            # Without room too: limited jobs may wait for a slot while others were claimed ahead for all of them; and
            # what is due by now would end the wait below at once.
            claimed = self._hand_over(claimer.claim(room, thorough=thorough))
            if claimer.wants_slot and not self._throttled:
                self._slots.reserve()
            if 0 < claimed < room.ahead:
                # There is no more; and to sleep at once lets the slots' threads begin, which need the interpreter.
                claimer.wait(until=self._recover_again)
            elif not claimed:
                if self._is_over(claimer):
                    return
                claimer.wait(for_room=room.ahead <= 0, until=self._recover_again)

    def _room(self) -> Room:
        self._throttled = True  # before asking: what is written meanwhile must end the next wait
        self._throttled = self._completer.overloaded
        if self._throttled:
            return Room(0)
        room = self._slots.room(quarantine=not self._in_quarantine())
        if self._max_jobs is None or self._left() >= room.ahead:
            return room
        return Room(self._left(), min(room.now, self._left()), room.quarantine)

    def _in_quarantine(self) -> bool:
        if self._quarantined is not None and not self._completer.holds(self._quarantined):
            self._quarantined = None
        return self._quarantined is not None

    def _left(self) -> int:
        return sys.maxsize if self._max_jobs is None else self._max_jobs - self._claimed + self._given_back

    def _hand_over(self, claimed: Claimed) -> int:
        """Returns how many jobs that were; nothing here keeps them in memory while the next ones are claimed or awaited."""
        if claimed:
            replaced = self._completer.expect([*claimed.careful, *claimed.plain])
            # Jobs that were taken over from this worker, and come back before it has noticed.
            self._completer.abandon(self._slots.disown(replaced))
            self._quarantined = next((claim for claim in claimed.careful if claim.rescues >= QUARANTINE), self._quarantined)
            self._claimed += len(claimed)
            self._claims = True
        if claimed.in_doubt:
            self._doubted, self._recover_again = True, time.monotonic()
        self._slots.hand(claimed)
        return len(claimed)

    def _is_over(self, claimer: Claimer) -> bool:
        """Whether a drain, or the number of jobs asked for, has come to its end."""
        if not self._completer.idle:
            return False
        if self._left() <= 0:
            return True
        # Retries and children of the last jobs are found only by looking everywhere, after those were written.
        if not self._draining:
            return False
        # Anew: the last job may have run while the room was measured.
        room = self._room()
        if room.ahead <= 0 or self._hand_over(claimer.claim(room, thorough=True)):
            return False
        return not claimer.held_back
