"""Writes outcomes in batches, in a thread of its own: takes one, then all that wait, writes, repeats.

No timer: nothing is delayed when there is little to do, and batches grow by themselves under load.
"""

from __future__ import annotations

import json
import logging
import queue
import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol
from uuid import UUID

from pgq_sync.engine.entries import failure
from pgq_sync.errors import StoreUnavailable
from pgq_sync.models import Claim, JobId, Outcome, Settled, Settlement

logger = logging.getLogger("pgq_sync.engine")

MOST = 1_000  # outcomes in one batch
BACKLOG = 1_000  # unwritten outcomes at which no more jobs are claimed: the next batch is full, and more would only take memory
# Seconds until a locked row is tried again. A claim that met a row while it changed locks it for a moment.
_FIRST_BLOCKED_DELAY = 0.01
_BLOCKED_DELAY = 0.2
_LONGEST_DELAY = 5.0
_TRIES = 3  # of a whole batch, before its halves are tried


class Settling(Protocol):
    """The part of a store that the completer needs."""

    def settle(self, worker_id: UUID, settlements: Sequence[Settlement], *, again: bool = False) -> Settled: ...


class Completer:
    """Owns every outcome from the end of its attempt until it is written.

    Args:
        store: writes them.
        worker_id: in whose name.
        on_written: called after each batch, with what no longer concerns this worker.
    """

    def __init__(self, store: Settling, worker_id: UUID, on_written: Callable[[Sequence[Settlement]], None]) -> None:
        self.counts: Counter[str] = Counter()  # written outcomes by status, and "lost"
        self._store = store
        self._worker_id = worker_id
        self._on_written = on_written
        self._outcomes: queue.SimpleQueue[Settlement | None] = queue.SimpleQueue()
        # The claims whose outcome is not written yet, by job. Whatever is not here under its fence is not written.
        self._open: dict[JobId, Claim] = {}
        self._replaced: set[tuple[JobId, int]] = set()  # claims of jobs that are open under a later fence
        self._lock = threading.Lock()  # of changes to these

    def expect(self, claims: Sequence[Claim]) -> Sequence[Claim]:
        """Notes claims as open, before their jobs can run; returns those that were open for the same jobs.

        Such a one was put back, and its outcome is just being written; or others have taken it over, and given it back.
        """
        replaced = []
        with self._lock:
            for claim in claims:
                if (earlier := self._open.get(claim.job.id)) is not None:
                    replaced.append(earlier)
                    self._replaced.add((earlier.job.id, earlier.fence))
                self._open[claim.job.id] = claim
        return replaced

    def held(self) -> list[Claim]:
        """The claims whose outcome is not written yet."""
        with self._lock:
            return list(self._open.values())

    def holds(self, claim: Claim) -> bool:
        """Whether the claim's outcome is not written yet."""
        held = self._open.get(claim.job.id)
        return held is not None and held.fence == claim.fence

    def still_held(self, claims: Sequence[Claim]) -> list[Claim]:
        """Those of the claims whose outcome is not written yet."""
        return [claim for claim in claims if self.holds(claim)]

    def put(self, settlement: Settlement) -> None:
        """Takes an outcome. Of several for one claim the first counts."""
        self._outcomes.put(settlement)

    @property
    def idle(self) -> bool:
        """Whether everything claimed so far is written."""
        return not self._open

    @property
    def overloaded(self) -> bool:
        """Whether so much is unwritten that no more should be claimed."""
        return self._outcomes.qsize() > BACKLOG

    def close(self) -> None:
        """Lets the thread end when it has written what was put before."""
        self._outcomes.put(None)

    def run(self, stopping: threading.Event) -> None:
        """The thread: until `close`, or until `stopping` while the store is away."""
        blocked: list[Settlement] = []
        closing, delay = False, _FIRST_BLOCKED_DELAY
        while not closing or blocked:
            batch, closing = self._take(blocked, closing, delay)
            blocked = list(self._write(batch, stopping).blocked) if batch else []
            delay = min(2 * delay, _BLOCKED_DELAY) if blocked else _FIRST_BLOCKED_DELAY
            del batch  # its jobs take their memory no longer than until they are written, however long the next ones take
            if stopping.is_set():
                return

    def _take(self, blocked: list[Settlement], closing: bool, delay: float) -> tuple[list[Settlement], bool]:
        """What is to be written now; what was locked before waits a little, unless something else comes."""
        taken: list[Settlement] = []
        try:
            first = self._outcomes.get(timeout=delay if blocked else None)
            while first is not None:
                taken.append(first)
                if len(taken) >= MOST:
                    break
                first = self._outcomes.get_nowait()
            closing = closing or first is None
        except queue.Empty:
            pass
        return self._still_open([*blocked, *taken]), closing

    def _still_open(self, batch: Sequence[Settlement]) -> list[Settlement]:
        chosen: dict[int, Settlement] = {}
        lost = []
        for each in batch:
            if self.holds(each.claim):
                chosen.setdefault(each.claim.job.id, each)
            elif (each.claim.job.id, each.claim.fence) in self._replaced:
                self._lost(each)
                lost.append(each)
            # Else it is settled already: a later outcome of the claim has no say.
        if lost:
            self._on_written(lost)
        return list(chosen.values())

    def abandon(self, claims: Sequence[Claim]) -> None:
        """Drops claims that others have taken over."""
        if not claims:
            return
        logger.warning("%s jobs were no longer ours: %s", len(claims), [each.job.id for each in claims])
        self.counts["lost"] += len(claims)
        dropped = [Settlement(claim, Outcome(status="released")) for claim in claims]
        for each in dropped:
            self._forget(each)
        self._on_written(dropped)

    def _write(self, batch: Sequence[Settlement], stopping: threading.Event, again: bool = False) -> Settled:
        """Writes a batch, as often as it takes; in halves where the database stays away, since the batch may be why."""
        delay, tries = 0.1, 0
        while True:
            try:
                settled = self._settle(batch, again=again or tries > 0)
                break
            except StoreUnavailable as error:
                tries += 1
                logger.warning("%s outcomes wait for the database: %s", len(batch), error)
                if stopping.wait(delay * random.uniform(0.5, 1.5)):
                    return Settled(blocked=batch)
                delay = min(delay * 2, _LONGEST_DELAY)
                if tries >= _TRIES and len(batch) > 1:
                    half = len(batch) // 2
                    return _joined(self._write(batch[:half], stopping, True), self._write(batch[half:], stopping, True))
        for each in settled.written:
            self.counts[each.outcome.status] += 1
            self._forget(each)
        for each in settled.lost:
            self._lost(each)
        self._on_written([*settled.written, *settled.lost])
        return settled

    def _lost(self, settlement: Settlement) -> None:
        self.counts["lost"] += 1
        job = settlement.claim.job
        logger.error(
            "job %s of %s was no longer ours: its outcome %r is not written", job.id, job.entrypoint, settlement.outcome.status
        )
        self._forget(settlement)

    def _forget(self, settlement: Settlement) -> None:
        with self._lock:
            self._replaced.discard((settlement.claim.job.id, settlement.claim.fence))
            # A job that was put back may have been claimed again meanwhile: that claim is open.
            if self.holds(settlement.claim):
                del self._open[settlement.claim.job.id]

    def _settle(self, batch: Sequence[Settlement], again: bool) -> Settled:
        """Writes a batch; where one outcome spoils it, finds that one and writes the others."""
        if any(each.outcome.written for each in batch):
            written = Settled(written=[each for each in batch if each.outcome.written])
            others = [each for each in batch if not each.outcome.written]
            return _joined(written, self._settle(others, again)) if others else written
        try:
            return self._store.settle(self._worker_id, batch, again=again)
        except StoreUnavailable:
            raise
        except Exception as error:
            if len(batch) > 1:
                # What finished may be written all the same: those that are put back are written after it.
                half = len(batch) // 2
                return _joined(self._settle(batch[:half], again=True), self._settle(batch[half:], again=True))
            logger.error("the outcome of job %s cannot be stored: %s", batch[0].claim.job.id, error)
            return self._store.settle(self._worker_id, [unstorable(batch[0], error)], again=again)


def unstorable(settlement: Settlement, error: Exception) -> Settlement:
    reason = f"the attempt ended as {settlement.outcome.status}, but its outcome cannot be stored: {error}"
    plain = json.loads(json.dumps(reason).replace("\\u0000", ""))
    outcome = Outcome(status="failed", error=failure(settlement.claim.job, type(error).__name__, plain))
    return Settlement(settlement.claim, outcome)


def _joined(first: Settled, second: Settled) -> Settled:
    return Settled(
        written=[*first.written, *second.written],
        blocked=[*first.blocked, *second.blocked],
        lost=[*first.lost, *second.lost],
    )
