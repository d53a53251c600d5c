"""THE HOT PATH's connection: waits on LISTEN/NOTIFY and claims.

Owned by the listener thread; `wake`, `cancel` and `peers` are for others.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any

import psycopg

from pgq_sync.errors import StoreUnavailable
from pgq_sync.models import Claim, Claimed, Job, Peers, Recovered, Room, WorkerInfo
from pgq_sync.storage.careful import CarefulClaims
from pgq_sync.storage.claiming import LocalLimits
from pgq_sync.storage.connections import pooled, require_writable
from pgq_sync.storage.failures import translated
from pgq_sync.storage.inbox import Inbox
from pgq_sync.storage.lanes import Bound, LaneMemory, Paused, claim_order, found_in, named, serving, stagger
from pgq_sync.storage.looks import Looks
from pgq_sync.storage.names import Names
from pgq_sync.storage.notifications import Notice
from pgq_sync.storage.rotation import Key
from pgq_sync.storage.statements import statements
from pgq_sync.storage.store import Clock

_SESSION = b"; ".join(
    [
        # A claim whose commit is lost in a crash leaves the job queued, which is no loss.
        b"set synchronous_commit to off",
        # Every good plan of these statements has the same shape: to plan anew each time only adds to the latency.
        b"set plan_cache_mode to force_generic_plan",
        # A plain index scan marks the dead entries that it meets, and the next one passes them by; a bitmap's does not.
        b"set enable_bitmapscan to off",
        # A machine that is lost closes no connection: the server would believe in it, and in its worker, for hours.
        b"set tcp_keepalives_idle to 5; set tcp_keepalives_interval to 3; set tcp_keepalives_count to 3",
    ]
)
_STATEMENTS = ("lanes", "peek", "claim", "own_session", "end_other_sessions", "recover")
_fences = itertools.count(1)  # over all claimers of the process: a fence is never used again


class PostgresClaimer:
    """Claims for one worker on one direct connection.

    Args:
        connection: in autocommit, and nobody else's; the caller closes it.
        names: the tables' names.
        worker: for whom to claim.
        clock: the time that decides what is due.
        poll_interval: how often to look without having been notified.
        limits: what the worker itself knows of the limits.
        on_notice: whom to call when somebody has asked jobs to end, or changed schedules: by the notification's kind.
    """

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        names: Names,
        worker: WorkerInfo,
        clock: Clock,
        poll_interval: timedelta,
        limits: LocalLimits,
        on_notice: Mapping[str, Callable[[], None]],
    ) -> None:
        self.peers = Peers()
        self.exclusive = self.hears = False
        self.wants_slot = False
        self._connection = connection
        self._names = names
        self._translated = translated(names)
        self._sql = {name: statements(names)[name].encode() for name in _STATEMENTS}
        self._worker = worker
        self._clock = clock
        serves = serving(worker.queues, worker.entrypoints)
        self._lanes = LaneMemory(serves)
        self._limits = limits
        self._careful = CarefulClaims(connection, names, worker, clock, serves, limits)
        self._paused = Paused()
        self._turn = False  # whose turn it is among equals: the careful lanes' or the others'
        self._looks = Looks(poll_interval.total_seconds())
        self._ahead = -math.inf  # the store's time, in Unix seconds, is so far ahead of the monotonic clock
        self._on_notice = on_notice

    def __enter__(self) -> PostgresClaimer:
        with self._translated:
            self._inbox = Inbox(self._connection)
        try:
            self._prepare()
        except BaseException:
            self._inbox.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._inbox.close()

    def _prepare(self) -> None:
        with self._translated:
            # Binary results: bytes and timestamps arrive as they are.
            self._cursor = psycopg.Cursor(self._connection)
            self._cursor.format = psycopg.pq.Format.BINARY
            # Behind a pooler the next statement may run in another session: nothing can be heard, locked or set there.
            self.hears = self.exclusive = not pooled(self._connection)
            if self.exclusive:
                self._own_session()
                self._connection.execute(_SESSION, prepare=False)  # several commands cannot be prepared
                self.hears = self._inbox.subscribe(self._names)
            self._looks.hears = self.hears

    def _own_session(self) -> None:
        """Holds, for as long as this session lives, the lock by which others see that the worker lives."""
        worker = {"worker_id": self._worker.worker_id}
        self._connection.execute("set lock_timeout to '1s'")
        try:
            self._connection.execute(self._sql["own_session"], worker)
        except psycopg.errors.LockNotAvailable:
            # The server has not noticed yet that an earlier connection is lost, or a rescuer is just looking.
            self._connection.execute(self._sql["end_other_sessions"], worker)
            self._connection.execute(self._sql["own_session"], worker)
        self._connection.execute("reset lock_timeout")

    def arm(self) -> None:
        self._inbox.arm()

    def wake(self) -> None:
        self._inbox.wake()

    def cancel(self) -> None:
        try:
            self._connection.cancel_safe(timeout=2.0)
        except psycopg.Error:
            pass  # the connection is gone, and the statement with it

    def claim(self, room: Room, *, thorough: bool = False) -> Claimed:
        with self._translated:
            self._hear()
            if thorough:
                self._careful.retry()
            now = self._look_around(thorough)
            top = self._careful.top(now, room.quarantine)
            claimed = self._claimed(room, top, now)
            if claimed.careful or self._careful.surprised:
                self._looks.worked_carefully(time.monotonic())
            return claimed

    def recover(self, claims: Sequence[Claim]) -> Recovered:
        params = {
            "worker_id": self._worker.worker_id,
            "ids": [claim.job.id for claim in claims],
            "fences": [claim.fence for claim in claims],
        }
        with self._translated:
            ours = {
                job_id: known for job_id, known in self._connection.execute(self._sql["recover"], params) if job_id is not None
            }
        lost = [claim for claim in claims if not ours.get(claim.job.id)]
        return Recovered(lost, complete=all(ours.values()))

    @property
    def held_back(self) -> bool:
        return self._careful.held_back

    def ended(self, entrypoints: Iterable[str]) -> None:
        self._careful.ended(entrypoints)

    def _claimed(self, room: Room, top: int | None, now: float) -> Claimed:
        """Claims from both kinds of lanes."""
        plain: list[Claim] = []
        careful: list[Claim] = []
        try:
            self.wants_slot = False
            if top is None:
                self._claim(plain, room.ahead, now)
            else:
                self._claim_both(plain, careful, room, top, now)
        except psycopg.Error:
            # What one statement has claimed starts, whatever became of the next. An error that lasts comes again.
            if not plain and not careful:
                raise
            return Claimed(sorted(plain, key=claim_order), careful, in_doubt=True)
        return Claimed(sorted(plain, key=claim_order), careful)

    def _claim_both(self, plain: list[Claim], careful: list[Claim], room: Room, top: int, now: float) -> None:
        """Claims from those with the larger priority first; equal ones take turns."""
        others = self._lanes.top(now)
        self._turn = not self._turn
        first = others is None or top > others or (top == others and self._turn)
        if not first:
            self._claim(plain, room.ahead, now)
        now_left = Room(room.ahead, room.now - len(plain), room.quarantine)
        self.wants_slot = now_left.now <= 0 and (others is None or top >= others)
        careful += self._careful.claim(now_left, next(_fences), now)
        if first:
            self._claim(plain, room.ahead - len(careful), now)

    def _claim(self, claims: list[Claim], room: int, now: float) -> None:
        """Claims until there is no more room, or nothing more."""
        while room > 0 and (lanes := self._lanes.ready(now, room)):
            fence = next(_fences)
            rows = self._cursor.execute(self._sql["claim"], self._claim_params(lanes, room, fence)).fetchall()
            mine = self._worker.worker_id
            got = [Claim(Job(*(*row[:-1], mine)), fence, row[-1]) for row in rows]
            claims += got
            deferred = self._lanes.claimed([key for key, _ in lanes], (claim.job for claim in got), exhausted=len(got) < room)
            self._looks.worked(time.monotonic(), deferred=deferred, in_vain=not got)
            room -= len(got)

    def wait(self, *, for_room: bool = False, until: float = math.inf) -> None:
        with self._translated:
            # A notification that came with a claim's answer lies in the client already: the socket stays silent.
            self._hear()
        if self._inbox.woken:
            return
        due = self._careful.next_due() if for_room else self._next_time()
        self._inbox.wait((until if due is None else min(due, until)) - time.monotonic())

    def _next_time(self) -> float:
        times = (self._looks.next(), self._lanes.next_due(), self._careful.next_due())
        return min(each for each in times if each is not None)

    def _look_around(self, thorough: bool) -> float:
        """Looks where it is time to, and tells what time it is then."""
        now = time.monotonic()
        if thorough or now >= self._looks.full:
            self._look()
        elif self._looks.brief is not None and now >= self._looks.brief:
            self._peek(self._lanes.worked())
            self._looks.brief = now if self._lanes.to_ask else None
        elif self._looks.soon is not None and now >= self._looks.soon:
            self._peek(self._lanes.deferred())
        else:
            return now
        return time.monotonic()

    def _look(self) -> None:
        *rows, (_, _, _, moment, _, seconds, _, _) = self._cursor.execute(self._sql["lanes"], {"now": self._clock()}).fetchall()
        require_writable(self._connection)
        # The time after the answer: counted from before the question, a deferred lane would be claimed too early.
        now = time.monotonic()
        rules = [row for row in rows if row[2] is None]
        self._paused = Paused(frozenset((row[0], row[1]) for row in rules if row[3] is not None))
        self._limits.learn({row[1]: row[7] for row in rules if row[6]})
        found = [found_in(row) for row in rows if row[2] is not None]
        going = [lane for lane in found if not self._paused.holds(*lane.key[:2])]
        self._lanes.looked(self._careful.looked(going, {row[1]: row[5] for row in rules if row[6]}, now), now)
        self._looks.looked(now, seconds)
        self._ahead = moment.timestamp() + seconds - now
        if self.hears and self._inbox.is_deaf(now):
            raise StoreUnavailable("the connection brings no notifications any more")

    def _peek(self, lanes: Sequence[tuple[Key, Bound]]) -> None:
        """Finds out what lanes that were worked in hold next: when that will be due, nothing else would tell."""
        self._looks.soon = None
        params = {"lanes": named(lanes), "now": self._clock()}
        rows = self._cursor.execute(self._sql["peek"], params).fetchall() if lanes else []
        found = [found_in(row) for row in rows if not self._paused.holds(*row[:2])]
        self._lanes.peeked([key for key, _ in lanes], found, time.monotonic())

    def _hear(self) -> None:
        for notice in self._inbox.notices():
            self._notified(notice, time.monotonic())

    def _notified(self, notice: Notice, now: float) -> None:
        if call := self._on_notice.get(notice.kind):
            call()
            return
        turn = now + stagger(notice.number, notice.jobs, self.peers)
        if notice.lanes is None:
            self._looks.call(turn)
            return
        for lane in notice.lanes:
            if not self._paused.holds(lane.queue, lane.entrypoint):
                memory = self._careful if self._careful.concerns(lane.entrypoint) else self._lanes
                # The transaction may have been committed long after its statement had told the delay.
                left = min(lane.delay, max(lane.due_at - self._ahead - now, 0.0))
                memory.notified(lane, turn + left, several=notice.jobs > 1)

    def _claim_params(self, lanes: Sequence[tuple[Key, Bound]], room: int, fence: int) -> dict[str, Any]:
        return {
            "lanes": named(lanes),
            "room": room,
            "worker_id": self._worker.worker_id,
            "fence": fence,
            "now": self._clock(),
        }
