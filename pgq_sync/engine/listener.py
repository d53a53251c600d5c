"""THE HOT PATH: waits for jobs, claims what there is room for, hands it to the slots. One thread, one connection."""

from __future__ import annotations

import logging
import random
import sys
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta

from pgq_sync.engine.completer import Completer
from pgq_sync.engine.slots import Slots
from pgq_sync.errors import StoreUnavailable
from pgq_sync.models import Claim, Peers, QueueExecutionMode, WorkerInfo
from pgq_sync.storage.store import Claimer, Store

logger = logging.getLogger("pgq_sync.engine")

_LONGEST_DELAY = 5.0  # seconds between two attempts to connect: well below the limit of a worker's liveness


class Listener:
    """Keeps the slots busy.

    Args:
        store: where jobs are claimed.
        worker: for whom.
        poll_interval: how often to look without having been notified.
        mode: drain ends the thread when nothing is claimable and everything claimed is written.
        max_jobs: end after so many, too.
        on_end: called when the thread ends by itself.
    """

    def __init__(
        self,
        store: Store,
        worker: WorkerInfo,
        poll_interval: timedelta,
        mode: QueueExecutionMode,
        max_jobs: int | None,
        on_end: Callable[[], None],
    ) -> None:
        self.listening = threading.Event()  # set once jobs enqueued from now on will be noticed
        self._store = store
        self._worker = worker
        self._poll_interval = poll_interval
        self._draining = mode is QueueExecutionMode.drain
        self._max_jobs = max_jobs
        self._claimed = 0  # written by the listener thread
        self._given_back = 0  # written by the keeper's
        self._on_end = on_end
        self._claimer: Claimer | None = None
        self._peers = Peers()
        self._throttled = False

    def serve(self, slots: Slots, completer: Completer) -> None:
        """Gives the listener those that it works for; before its thread starts."""
        self._slots = slots
        self._completer = completer

    def run(self, stopping: threading.Event) -> None:
        """The thread."""
        delay = 0.1
        while not stopping.is_set():
            try:
                with self._store.claimer(self._worker, self._poll_interval) as claimer:
                    self._claimer = claimer
                    claimer.peers = self._peers
                    self.listening.set()
                    delay = 0.1
                    self._cycle(claimer, stopping)
                    break
            except StoreUnavailable as error:
                logger.warning("the listener lost the database and connects again: %s", error)
                stopping.wait(delay * random.uniform(0.5, 1.5))
                delay = min(delay * 2, _LONGEST_DELAY)
            finally:
                self._claimer = None
                self.listening.clear()
        if not stopping.is_set():
            self._on_end()

    def wake(self) -> None:
        """There may be room, or nothing left to do. From any thread."""
        claimer = self._claimer
        if claimer is not None:
            claimer.wake()

    def written(self) -> None:
        """A batch of outcomes was written: it matters to a drain, and where that was waited for."""
        if self._draining or self._max_jobs is not None or self._throttled:
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
            room = self._room()
            claims = claimer.claim(room) if room > 0 else ()
            self._hand_over(claims)
            if 0 < len(claims) < room:
                # There is no more; and to sleep at once lets the slots' threads begin, which need the interpreter.
                claimer.wait()
            elif not claims:
                if self._is_over(claimer, room):
                    return
                claimer.wait(for_room=room <= 0)

    def _room(self) -> int:
        self._throttled = self._completer.overloaded
        if self._throttled:
            return 0
        room = self._slots.room()
        return room if self._max_jobs is None else min(room, self._left())

    def _left(self) -> int:
        return sys.maxsize if self._max_jobs is None else self._max_jobs - self._claimed + self._given_back

    def _hand_over(self, claims: Sequence[Claim]) -> bool:
        if claims:
            self._completer.expect(claims)
            self._slots.hand(claims)
            self._claimed += len(claims)
        return bool(claims)

    def _is_over(self, claimer: Claimer, room: int) -> bool:
        """Whether a drain, or the number of jobs asked for, has come to its end."""
        if not self._completer.idle:
            return False
        if self._left() <= 0:
            return True
        # Retries and children of the last jobs are found only by looking everywhere, after those were written.
        return self._draining and room > 0 and not self._hand_over(claimer.claim(room, thorough=True))
