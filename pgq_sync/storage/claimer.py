"""THE HOT PATH's connection: waits on LISTEN/NOTIFY and claims. Owned by the listener thread; only `wake` is for others."""

from __future__ import annotations

import itertools
import selectors
import time
from collections import deque
from collections.abc import Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any

import msgspec
import psycopg

from pgq_sync.models import Claim, Job, Peers, WorkerInfo
from pgq_sync.storage.connections import require_writable
from pgq_sync.storage.failures import translated
from pgq_sync.storage.lanes import Found, LaneMemory, claim_order, serving
from pgq_sync.storage.names import Names
from pgq_sync.storage.notifications import parse, subscribe
from pgq_sync.storage.statements import statements
from pgq_sync.storage.store import Clock
from pgq_sync.storage.waker import Waker

BUSY_LOOK = 1.0  # seconds between two full looks while there is work
_fences = itertools.count(1)  # over all claimers of the process: a fence is never used again


class PostgresClaimer:
    """Claims for one worker on one direct connection.

    Args:
        connection: in autocommit, and nobody else's; the caller closes it.
        names: the tables' names.
        worker: for whom to claim.
        clock: the time that decides what is due.
        poll_interval: how often to look without having been notified.
    """

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        names: Names,
        worker: WorkerInfo,
        clock: Clock,
        poll_interval: timedelta,
    ) -> None:
        self.peers = Peers()
        self._connection = connection
        self._names = names
        self._sql = {name: statements(names)[name].encode() for name in ("lanes", "claim")}
        self._worker = worker
        self._clock = clock
        self._poll_interval = poll_interval.total_seconds()
        self._lanes = LaneMemory(serving(worker.queues, worker.entrypoints))
        self._waker = Waker()
        self._heard: deque[str] = deque()
        self._next_look = 0.0

    def __enter__(self) -> PostgresClaimer:
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._connection.fileno(), selectors.EVENT_READ)
        self._selector.register(self._waker, selectors.EVENT_READ)
        try:
            self._prepare()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._close()

    def _prepare(self) -> None:
        with translated():
            # Binary results: bytes and timestamps arrive as they are.
            self._cursor = psycopg.Cursor(self._connection)
            self._cursor.format = psycopg.pq.Format.BINARY
            # A claim whose commit is lost in a crash leaves the job queued, which is no loss.
            self._connection.execute("set synchronous_commit to off")
            # Every good plan of these statements has the same shape: to plan anew each time only adds to the latency.
            self._connection.execute("set plan_cache_mode to force_generic_plan")
            self._connection.add_notify_handler(lambda notification: self._heard.append(notification.payload))
            subscribe(self._connection, self._names)

    def _close(self) -> None:
        self._selector.close()
        self._waker.close()

    def arm(self) -> None:
        self._waker.clear()

    def wake(self) -> None:
        self._waker.set()

    def cancel(self) -> None:
        try:
            self._connection.cancel_safe(timeout=2.0)
        except psycopg.Error:
            pass  # the connection is gone, and the statement with it

    def claim(self, room: int, *, thorough: bool = False) -> Sequence[Claim]:
        with translated():
            self._hear()
            if thorough or time.monotonic() >= self._next_look:
                self._look()
            lanes = self._lanes.ready(time.monotonic())
            if not lanes:
                return ()
            fence = next(_fences)
            rows = self._cursor.execute(self._sql["claim"], self._claim_params(lanes, room, fence)).fetchall()
        claims = [Claim(Job(*row[:12]), fence, row[12]) for row in rows]
        self._lanes.claimed((claim.job for claim in claims), exhausted=len(claims) < room)
        # What these lanes hold next, what commits late and what was a moment too early a full look finds out soon.
        self._next_look = min(self._next_look, time.monotonic() + BUSY_LOOK)
        claims.sort(key=claim_order)
        return claims

    def wait(self, *, for_room: bool = False) -> None:
        with translated():
            # A notification that came with a claim's answer lies in the client already: the socket stays silent.
            self._hear()
        if self._waker.is_set():
            return
        delay = None if for_room else max(self._next_time() - time.monotonic(), 0.0)
        if any(key.fileobj is self._waker for key, _ in self._selector.select(delay)):
            self._waker.drain()

    def _next_time(self) -> float:
        due = self._lanes.next_due()
        return self._next_look if due is None else min(self._next_look, due)

    def _look(self) -> None:
        rows = self._cursor.execute(self._sql["lanes"], {"now": self._clock()}).fetchall()
        require_writable(self._connection)
        # The time after the answer: counted from before the question, a deferred lane would be claimed too early.
        now = time.monotonic()
        self._lanes.looked((Found((row[0], row[1], row[2]), row[3], row[4]) for row in rows), now)
        self._next_look = now + self._poll_interval

    def _hear(self) -> None:
        # What came during a statement went to the handler. The rest is asked of libpq itself: `Connection.notifies`
        # takes a tenth of a millisecond to say that there is nothing, twice for each job that an idle worker starts.
        self._connection.pgconn.consume_input()
        while notification := self._connection.pgconn.notifies():
            self._heard.append(notification.extra.decode(self._connection.info.encoding, "replace"))
        while self._heard:
            try:
                look = self._lanes.notified(parse(self._heard.popleft()), self.peers, time.monotonic())
            except ValueError:
                look = time.monotonic()  # somebody else's message: it may mean anything
            if look is not None:
                self._next_look = min(self._next_look, look)

    def _claim_params(self, lanes: Sequence[tuple[tuple[str, str, int], Any]], room: int, fence: int) -> dict[str, Any]:
        return {
            # One text: psycopg would take longer to write four arrays than the server takes to read this.
            "lanes": msgspec.json.encode(
                [{"queue": key[0], "entrypoint": key[1], "priority": key[2], "bound": bound} for key, bound in lanes]
            ).decode(),
            "room": room,
            "worker_id": self._worker.worker_id,
            "fence": fence,
            "now": self._clock(),
        }
