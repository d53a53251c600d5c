"""A watcher's thread: registers jobs, hears that they have ended, looks what became of them. It owns one connection.

It does everything for many jobs at once; how many statements that takes does not depend on how many jobs there are.
"""

from __future__ import annotations

import heapq
import logging
import math
import random
import threading
import time
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from typing import Protocol
from uuid import UUID, uuid4

from pgq_sync.engine.promises import Promises
from pgq_sync.errors import JobNotFound, PgqError, StoreUnavailable
from pgq_sync.models import Completion, JobId
from pgq_sync.storage.waker import Waker
from pgq_sync.storage.watching import Looked, Lookout

logger = logging.getLogger("pgq_sync.engine")

IDLE = 10.0  # seconds without a watched job after which thread and connection are given up
FIRST_AGAIN = 0.005  # seconds until what was just registered is looked at again, doubled each time
_DEAF = 1.0  # seconds between two looks at everything where no notification can come, at most
_RENEWAL = 600.0  # seconds after which a watched job is registered anew, at the latest
_FIRST_DELAY = 0.1  # seconds until a lost connection is replaced, doubled each time
_LONGEST_DELAY = 5.0
_FEW = 100  # jobs up to which nothing is collected, and for each further so many a millisecond
_LONGEST_MOMENT = 0.1  # seconds
_CROWD = 5.0  # seconds for which jobs that have ended count as a crowd


class Lookouts(Protocol):
    """The part of a store that a watcher needs."""

    def lookout(self, watcher_id: UUID, waker: Waker) -> AbstractContextManager[Lookout]: ...


class Vigil:
    """Looks after the promises until nobody has asked for any for a while.

    Args:
        store: where the jobs are.
        promises: what to keep.
        refresh: how often to look at everything, in seconds.
        may_end: asked, once there is nothing to do; from True on, nothing is added for this thread.
        give_up: told, as the last, of an error that waiting does not mend.
    """

    def __init__(
        self,
        store: Lookouts,
        promises: Promises,
        refresh: float,
        may_end: Callable[[], bool],
        give_up: Callable[[PgqError], None],
    ) -> None:
        self.waker = Waker()
        self._store = store
        self._promises = promises
        self._longest = self._refresh = min(refresh, _RENEWAL)
        self._may_end = may_end
        self._give_up = give_up
        self._watcher_id = uuid4()
        self._lookout: Lookout | None = None
        self._fresh: set[JobId] = set()  # to be registered
        self._told: set[JobId] = set()  # to be looked at
        self._left: set[JobId] = set()  # to be left
        self._seen: set[JobId] = set()  # registered, and seen unfinished
        self._removed: set[JobId] = set()  # a person has deleted what was remembered of them
        # What was registered and is to be looked at again, and when, and after how long once more: whoever was just ending
        # one of these jobs did not see the registration, and told nobody.
        self._again: list[tuple[float, float, set[JobId]]] = []
        self._due = self._refresh_at = math.inf
        self._idle_at = math.inf
        self._crowd, self._crowd_at = 0.0, 0.0
        self._delay, self._said = _FIRST_DELAY, False

    def run(self, stopping: threading.Event) -> None:
        """The thread."""
        try:
            while not stopping.is_set():
                try:
                    with self._store.lookout(self._watcher_id, self.waker) as self._lookout:
                        self._keep(self._lookout, stopping)
                    return
                except StoreUnavailable as error:
                    if stopping.is_set() or (not self._promises and self._may_end()):
                        return
                    self._wait_for_the_store(error, stopping)
                finally:
                    self._lookout = None
        except PgqError as error:
            self._give_up(error)
        finally:
            self.waker.close()

    def cut_off(self) -> None:
        """Ends a call that waits for the store. From any thread."""
        lookout = self._lookout
        if lookout is not None:
            lookout.cut_off()

    def _wait_for_the_store(self, error: StoreUnavailable, stopping: threading.Event) -> None:
        if not self._said:
            logger.warning("a watcher of jobs lost the database and connects again: %s", error)
            self._said = True
        stopping.wait(self._delay * random.uniform(0.5, 1.5))
        self._delay = min(self._delay * 2, _LONGEST_DELAY)

    def _keep(self, lookout: Lookout, stopping: threading.Event) -> None:
        # What happened before is not told any more: everything is registered, and looked at.
        self._refresh_at = 0.0
        self._longest = self._refresh if lookout.hears else min(self._refresh, _DEAF)
        self._idle_at = time.monotonic() + IDLE
        while not stopping.is_set():
            # First of all: whatever is put or told from here on ends the wait.
            self.waker.clear()
            self._gather(lookout)
            now = time.monotonic()
            if self._next() <= now:
                self._look(lookout, now)
            elif self._promises or now < self._idle_at:
                lookout.wait(self._next() if self._promises else self._idle_at)
            else:
                self._leave(lookout)
                if self._may_end():
                    return
        self._leave(lookout)

    def _gather(self, lookout: Lookout) -> None:
        """Takes in what was asked for and what was told, and gives more of it a moment to come."""
        fresh, left = self._promises.news()
        self._fresh |= fresh
        self._left |= left
        self._hear(lookout)
        now = time.monotonic()
        if self._promises:
            self._idle_at = now + IDLE
        if (self._fresh or self._told) and math.isinf(self._due):
            self._due = now + self._moment(now)

    def _hear(self, lookout: Lookout) -> None:
        for notice in lookout.heard():
            ids = self._promises.ids() if notice.ids is None else self._promises.among(notice.ids)
            self._told |= ids
            if notice.kind == "removed":
                self._removed |= ids

    def _moment(self, now: float) -> float:
        """For how long to collect, by how many jobs are watched or have just ended: a batch of results costs as much as one."""
        crowd = len(self._promises) + self._ended(0, now)
        return 0.0 if crowd <= _FEW else min(crowd / _FEW / 1000, _LONGEST_MOMENT)

    def _ended(self, jobs: int, now: float) -> float:
        self._crowd = self._crowd * math.exp((self._crowd_at - now) / _CROWD) + jobs
        self._crowd_at = now
        return self._crowd

    def _next(self) -> float:
        """When there is something to do."""
        if not self._promises:
            return math.inf
        return min(self._due, self._refresh_at, self._again[0][0] if self._again else math.inf)

    def _look(self, lookout: Lookout, now: float) -> None:
        if self._left:
            lookout.leave(self._left)
            self._seen -= self._left
        fresh, ids = self._fresh, self._fresh | self._told | self._looked_at_again(now)
        if now >= self._refresh_at:
            ids = fresh = self._promises.ids()
            self._refresh_at = now + self._longest
        self._fresh, self._told, self._left, self._due = set(), set(), set(), math.inf
        if fresh:
            self._register(lookout, fresh)
        looked = lookout.look(ids)
        self._delay, self._said = _FIRST_DELAY, False
        if looked.nowhere:
            self._hear(lookout)
        self._judge(looked)
        # Committed between the two statements: unknown to the first, and unfinished to the second.
        self._fresh |= self._promises.among(fresh - self._seen)
        # One that ends alone is none of a crowd.
        self._ended(max(len(looked.ended) + len(looked.nowhere) - 1, 0), now)

    def _leave(self, lookout: Lookout) -> None:
        """Registers everything off."""
        if self._seen or self._left:
            lookout.leave(self._seen | self._left)
            self._seen, self._left = set(), set()

    def _register(self, lookout: Lookout, ids: Collection[JobId]) -> None:
        unfinished = lookout.register(ids)
        if new := unfinished - self._seen:
            heapq.heappush(self._again, (time.monotonic() + FIRST_AGAIN, FIRST_AGAIN, new))
        self._seen |= new

    def _looked_at_again(self, now: float) -> set[JobId]:
        """What is due to be looked at again, or nearly so."""
        ids: set[JobId] = set()
        while self._again and self._again[0][0] <= now + FIRST_AGAIN / 2:
            _, delay, group = heapq.heappop(self._again)
            left = self._promises.among(group)
            ids |= left
            if left and 2 * delay < self._longest:
                heapq.heappush(self._again, (now + 2 * delay, 2 * delay, left))
        return ids

    def _judge(self, looked: Looked) -> None:
        for completion in looked.ended:
            self._forget(completion.job_id)
            self._promises.resolve(completion)
        for job_id in looked.nowhere:
            # Only successes are forgotten at once, where history is not kept.
            succeeded = job_id in self._seen and job_id not in self._removed
            self._forget(job_id)
            if succeeded:
                self._promises.resolve(Completion(job_id=job_id, entrypoint=None, status="succeeded", attempts=None))
            else:
                self._promises.fail(job_id, lambda job_id=job_id: JobNotFound(job_id))  # type: ignore[misc]

    def _forget(self, job_id: JobId) -> None:
        self._seen.discard(job_id)
        self._removed.discard(job_id)
