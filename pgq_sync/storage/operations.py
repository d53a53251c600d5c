"""What an operator asks of the jobs on PostgreSQL, on whatever connection and in whatever transaction.

Each call is all or nothing; a purge alone is done slice by slice. Who else locks rows is told in operations.sql.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from pgq_sync.models import CancelResult, DeleteResult, JobId, JobRecord, RequeueResult
from pgq_sync.storage.database import Row, Session, atomic
from pgq_sync.storage.failures import lacks_partition
from pgq_sync.storage.inserts import text
from pgq_sync.storage.names import Names
from pgq_sync.storage.progress import with_progress
from pgq_sync.storage.statements import statements
from pgq_sync.storage.store import CANCELLED_WAITING, WAITING, Clock

SLICE = 10_000  # jobs per statement
_ROUNDS = 10
Result = TypeVar("Result")


class PostgresOperations:
    """Operations on one installation's jobs.

    Args:
        session: gives the session that an operation runs on.
        names: the tables' names.
        clock: the time that rows get.
        make_partitions: called, while no session is open, where history takes no jobs that finish today.
    """

    def __init__(
        self,
        session: Callable[[], AbstractContextManager[Session]],
        names: Names,
        clock: Clock,
        make_partitions: Callable[[], object],
    ) -> None:
        self._session = session
        self._sql = statements(names)
        self._clock = clock
        self._make_partitions = make_partitions

    def requeue(self, ids: Iterable[int], *, reset_attempts: bool = True) -> RequeueResult:
        wanted = list(dict.fromkeys(ids))
        options = {"reset_attempts": reset_attempts, "now": text(self._clock())}
        requeued: dict[int, int] = {}
        before: dict[int, int | None] = {}
        with self._session() as session, atomic(session):
            for part in self._slices(session, wanted):
                params = options | {"ids": part}
                # Keys are taken before rows are locked, as where jobs are enqueued in the place of others.
                requeued |= {row[0]: row[1] for row in session.run(self._sql["requeue_failed"], params)}
                requeued |= {row[0]: row[0] for row in session.run(self._sql["requeue_held"], params)}
                before |= {row[0]: row[1] for row in session.run(self._sql["failed"], params) if row[0] not in requeued}
        return RequeueResult(
            requeued={JobId(each): JobId(requeued[each]) for each in wanted if each in requeued},
            already={JobId(each): JobId(anew) for each in wanted if (anew := before.get(each)) is not None},
            conflicts=[JobId(each) for each in wanted if each in before and before[each] is None],
            unknown=[JobId(each) for each in wanted if each not in requeued and each not in before],
        )

    def cancel(self, ids: Iterable[int]) -> CancelResult:
        wanted = list(dict.fromkeys(ids))
        ended, asked = self.finishing(lambda session: self._cancel(session, wanted))
        return CancelResult(
            ended=[JobId(each) for each in wanted if each in ended],
            asked=[JobId(each) for each in wanted if each in asked],
            unknown=[JobId(each) for each in wanted if each not in ended and each not in asked],
        )

    def _cancel(self, session: Session, ids: Sequence[int]) -> tuple[set[int], set[int]]:
        ended: set[int] = set()
        asked: set[int] = set()
        for part in self._slices(session, ids):
            waiting = part
            for number in range(_ROUNDS):
                ended |= self._end(session, waiting, "cancelled", CANCELLED_WAITING)
                left = [each for each in waiting if each not in ended]
                # A job that changes sides each time is asked at last wherever it is; whoever looks after requests ends it.
                params = {"ids": left, "now": text(self._clock()), "waiting_too": number == _ROUNDS - 1}
                rows = session.run(self._sql["ask_running"], params) if left else []
                asked |= {job_id for job_id, was_asked in rows if was_asked}
                waiting = [job_id for job_id, was_asked in rows if not was_asked]
                if not waiting:
                    break
        return ended, asked

    def delete(self, ids: Iterable[int]) -> DeleteResult:
        wanted = list(dict.fromkeys(ids))
        deleted, running = self.finishing(lambda session: self._delete(session, wanted))
        return DeleteResult(
            deleted=[JobId(each) for each in wanted if each in deleted],
            refused=[JobId(each) for each in wanted if each in running],
            unknown=[JobId(each) for each in wanted if each not in deleted and each not in running],
        )

    def _delete(self, session: Session, ids: Sequence[int]) -> tuple[set[int], set[int]]:
        deleted: set[int] = set()
        refused: set[int] = set()
        for part in self._slices(session, ids):
            waiting = left = part
            unfinished: list[Row] = []
            for _ in range(_ROUNDS):
                deleted |= self._end(session, waiting, "deleted")
                left = [each for each in left if each not in deleted]
                unfinished = session.run(self._sql["unfinished"], {"ids": left}) if left else []
                waiting = [job_id for job_id, running in unfinished if not running]
                if not waiting:
                    break
            refused |= {row[0] for row in unfinished}
            # Only now: what was seen not to be unfinished is in history by this time.
            finished = [each for each in left if each not in refused]
            if finished:
                deleted |= {row[0] for row in session.run(self._sql["forget_finished"], {"ids": finished})}
        return deleted, refused

    def purge(self, status: str, *, entrypoint: str | None, older_than: timedelta) -> int:
        return sum(len(ids) for ids in self._purged(status, self._chosen(status, entrypoint, older_than)))

    def count_purgeable(self, status: str, *, entrypoint: str | None, older_than: timedelta) -> int:
        name = "count_waiting" if status in WAITING else "count_finished"
        params = self._chosen(status, entrypoint, older_than)
        with self._session() as session:
            return int(session.run(self._sql[name], params)[0][0])

    def _purged(self, status: str, chosen: Mapping[str, Any]) -> Iterator[set[int]]:
        """The ids of each slice, which is a transaction of its own where the connection is in autocommit."""
        purge = self._purge_waiting if status in WAITING else self._purge_finished
        after, more = 0, True
        while more:
            ids = self.finishing(partial(purge, params={**chosen, "after": after, "slice": SLICE}))
            after, more = max(ids, default=0), len(ids) == SLICE
            yield ids

    def _purge_waiting(self, session: Session, params: Mapping[str, Any]) -> set[int]:
        picked = [row[0] for row in session.run(self._sql["lock_waiting"], params)]
        return self._end(session, picked, "deleted")

    def _purge_finished(self, session: Session, params: Mapping[str, Any]) -> set[int]:
        return {row[0] for row in session.run(self._sql["purge_finished"], params)}

    def _chosen(self, status: str, entrypoint: str | None, older_than: timedelta) -> dict[str, Any]:
        return {"status": status, "entrypoint": entrypoint, "before": text(self.now() - older_than)}

    def finishing(self, work: Callable[[Session], Result]) -> Result:
        """What `work` gives, all or nothing; once more where history had no partition for the day."""
        try:
            return self._at_once(work)
        except Exception as error:
            if not lacks_partition(error):
                raise
        # Not on the caller's connection: until it commits, nobody could finish a job.
        self._make_partitions()
        return self._at_once(work)

    def _at_once(self, work: Callable[[Session], Result]) -> Result:
        with self._session() as session, atomic(session):
            return work(session)

    def _end(self, session: Session, ids: Sequence[int], status: str, error: str | None = None) -> set[int]:
        params = {"ids": list(ids), "status": status, "error": error, "now": text(self._clock())}
        return {row[0] for row in session.run(self._sql["end_waiting"], params)} if ids else set()

    def _slices(self, session: Session, ids: Sequence[int]) -> Iterator[list[int]]:
        """`ids` for one statement after the other, which together lock them in the order in which each does."""
        if len(ids) > SLICE:
            parts = [list(ids[start : start + SLICE]) for start in range(0, len(ids), SLICE)]
            rows = [row for part in parts for row in session.run(self._sql["dedupe_keys"], {"ids": part})]
            place = {row[0]: (row[1] is None, row[1] or "") for row in rows}
            ids = sorted(ids, key=lambda job_id: (*place.get(job_id, (True, "")), job_id))
        for start in range(0, len(ids), SLICE):
            yield list(ids[start : start + SLICE])

    def end_requested(self) -> int:
        """Ends jobs that wait although they were asked to end, and forgets what finished jobs were asked; how many it ended."""
        with self._session() as session:
            ids = self._idle_requests(session)
        return len(self.finishing(lambda session: self._end_requested(session, ids))) if ids else 0

    def end_requested_on(self, session: Session) -> None:
        """The same in the session's transaction, before anybody can claim what it puts back."""
        if ids := self._idle_requests(session):
            self._end_requested(session, ids)

    def _idle_requests(self, session: Session) -> list[int]:
        return [row[0] for row in session.run(self._sql["idle_requests"])]

    def _end_requested(self, session: Session, ids: Sequence[int]) -> set[int]:
        waiting = [row[0] for row in session.run(self._sql["lock_requested"], {"ids": ids})]
        ended = self._end(session, waiting, "cancelled", CANCELLED_WAITING)
        session.run(self._sql["forget_requests"], {"ids": ids})
        return ended

    def get(self, job_id: int) -> JobRecord | None:
        with self._session() as session:
            records = self._records(session, session.run(self._sql["get"], {"id": job_id}))
        return records[0] if records else None

    def find(
        self, *, status: str | None = None, entrypoint: str | None = None, queue: str | None = None, limit: int = 25
    ) -> list[JobRecord]:
        params = {"status": status, "entrypoint": entrypoint, "queue": queue, "limit": limit}
        with self._session() as session:
            rows = [row for name in ("find_unfinished", "find_finished") for row in session.run(self._sql[name], params)]
            # A job that finishes between the two statements is in both answers.
            latest = {row[0]: row for row in rows}
            return self._records(session, [latest[job_id] for job_id in sorted(latest, reverse=True)[:limit]])

    def held(self, *, entrypoint: str | None = None, limit: int = 25) -> list[JobRecord]:
        with self._session() as session:
            return [_record(row) for row in session.run(self._sql["held"], {"entrypoint": entrypoint, "limit": limit})]

    def _records(self, session: Session, rows: Sequence[Row]) -> list[JobRecord]:
        return with_progress(session, self._sql, [_record(row) for row in rows])

    def count(self) -> Mapping[tuple[str, str], int]:
        with self._session() as session:
            return {(row[0], row[1]): row[2] for row in session.run(self._sql["count"])}

    def latencies(self) -> tuple[float, float, float] | None:
        with self._session() as session:
            percentiles = session.run(self._sql["latencies"])[0][0]
        if percentiles is None:
            return None
        p50, p95, p99 = map(float, percentiles)
        return p50, p95, p99

    def now(self) -> datetime:
        with self._session() as session:
            moment: datetime = session.run(self._sql["database_now"], {"now": text(self._clock())})[0][0]
        return moment


def _record(row: Row) -> JobRecord:
    fields = dict(zip(_RECORD, row, strict=True))
    # Drivers and frameworks read bytea and JSON each in a way of its own.
    payload = None if fields["payload"] is None else bytes(fields["payload"])
    read = {name: None if fields[name] is None else json.loads(fields[name]) for name in ("headers", "errors", "result")}
    return JobRecord(**(fields | read | {"payload": payload, "errors": read["errors"] or []}))


_RECORD = (
    *("id", "queue", "entrypoint", "priority", "status", "attempts", "execute_after", "created_at", "claimed_at"),
    *("finished_at", "worker_id", "dedupe_key", "payload", "headers", "errors", "result", "requeued_from", "requeued_as"),
)
