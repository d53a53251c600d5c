"""What becomes of jobs by an operator's hand, and by age."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from pgq_sync.models import CancelResult, DeleteResult, RequeueResult
from tests.storage.machine.model import Jobs
from tests.storage.machine.rows import WAITING, Row

DAY = timedelta(days=1)


def requeue(jobs: Jobs, ids: Sequence[int], reset_attempts: bool, result: RequeueResult) -> list[Row]:
    """What waits again. Of several failed jobs under one key any may be the one that gets it."""
    wanted = list(dict.fromkeys(ids))
    already = {job_id: row.requeued_as for job_id in wanted if (row := jobs.rows.get(job_id)) and row.requeued_as}
    waiting = [
        _requeue_one(jobs, old, new, reset_attempts) for old, new in sorted(result.requeued.items(), key=lambda pair: pair[1])
    ]
    conflicts = []
    for job_id in wanted:
        row = jobs.rows.get(job_id)
        if row and row.status == "failed" and row.requeued_as is None:
            assert row.dedupe_until, f"no key guards {row}, and it was not requeued"
            assert jobs.holder(row.dedupe_key), f"nobody has the key of {row}, and it was not requeued"
            conflicts.append(job_id)
    unknown = [each for each in wanted if each not in result.requeued and each not in conflicts and each not in already]
    assert not [each for each in unknown if each in jobs.rows and jobs.rows[each].status == "held"], f"held: {unknown}"
    told = (dict(result.already), list(result.conflicts), list(result.unknown))
    assert told == (already, conflicts, unknown), f"requeue told {told}, and not {(already, conflicts, unknown)}"
    return waiting


def _requeue_one(jobs: Jobs, old: int, new: int, reset_attempts: bool) -> Row:
    row = jobs.rows.get(old)
    assert row, f"{old} was requeued, which nobody knows"
    attempts = 0 if reset_attempts else row.attempts
    if row.status == "held":
        assert new == old, f"{row} is held, and was requeued as {new}"
        jobs.requests.discard(old)
        return jobs.put_back(old, execute_after=jobs.now, attempts=attempts, rescues=0)
    assert row.status == "failed", f"neither held nor failed, and requeued: {row}"
    assert row.requeued_as is None, f"requeued twice: {row}"
    anew = replace(
        row,
        id=new,
        status="queued",
        execute_after=jobs.now,
        created_at=jobs.now,
        attempts=attempts,
        requeued_from=old,
        worker_id=None,
        fence=None,
        claimed_at=None,
        finished_at=None,
    )
    if anew.guards:
        assert jobs.holder(row.dedupe_key) is None, f"requeued though its key is taken: {row}"
    jobs.change(old, requeued_as=new)
    return jobs.add(anew)


def cancel(jobs: Jobs, ids: Sequence[int], result: CancelResult) -> bool:
    """Whether anybody was asked to end."""
    wanted = list(dict.fromkeys(ids))
    statuses = {job_id: jobs.rows[job_id].status if job_id in jobs.rows else "" for job_id in wanted}
    ended = [each for each in wanted if statuses[each] in WAITING]
    asked = [each for each in wanted if statuses[each] == "running"]
    unknown = [each for each in wanted if each not in ended and each not in asked]
    told = (list(result.ended), list(result.asked), list(result.unknown))
    assert told == (ended, asked, unknown), f"cancel told {told}, and not {(ended, asked, unknown)}"
    for job_id in ended:
        _cancel_waiting(jobs, job_id)
    jobs.requests.update(asked)
    return bool(asked)


def _cancel_waiting(jobs: Jobs, job_id: int) -> None:
    jobs.finish(job_id, "cancelled", errors=jobs.rows[job_id].errors + 1)


def end_cancelled(jobs: Jobs, ended: int) -> None:
    """Whoever waits although it was asked to end is ended."""
    waiting = end_requested(jobs)
    assert ended == len(waiting), f"{ended} were ended, and not {waiting}"


def end_requested(jobs: Jobs) -> list[int]:
    """The same, wherever nobody tells how many there were."""
    waiting = [row.id for row in jobs.having(*WAITING) if row.id in jobs.requests]
    for job_id in waiting:
        _cancel_waiting(jobs, job_id)
    jobs.requests &= {row.id for row in jobs.having("running")}
    return waiting


def delete(jobs: Jobs, ids: Sequence[int], result: DeleteResult) -> None:
    """Jobs that wait are deleted, finished ones forgotten, those that run refused."""
    wanted = list(dict.fromkeys(ids))
    refused = [each for each in wanted if each in jobs.rows and jobs.rows[each].status == "running"]
    deleted = [each for each in wanted if each in jobs.rows and each not in refused]
    unknown = [each for each in wanted if each not in jobs.rows]
    told = (list(result.deleted), list(result.refused), list(result.unknown))
    assert told == (deleted, refused, unknown), f"delete told {told}, and not {(deleted, refused, unknown)}"
    for job_id in deleted:
        _delete_one(jobs, job_id)


def purge(jobs: Jobs, status: str, entrypoint: str | None, older_than: timedelta, count: int) -> None:
    """All of a status are deleted."""
    before = jobs.now - older_than
    chosen = [
        row.id
        for row in jobs.having(status)
        if entrypoint in (None, row.entrypoint) and (row.finished_at or row.created_at) <= before
    ]
    assert count == len(chosen), f"{count} were purged, and not {chosen}"
    for job_id in chosen:
        _delete_one(jobs, job_id)


def _delete_one(jobs: Jobs, job_id: int) -> None:
    if jobs.rows[job_id].unfinished:
        jobs.finish(job_id, "deleted")
    else:
        jobs.forget(job_id)


def maintain(jobs: Jobs, retention: timedelta, remembered: set[int]) -> None:
    """What is older than the retention is forgotten: at once, or with its whole day."""
    for row in list(jobs.rows.values()):
        if row.finished_at is None:
            continue
        age = jobs.now - row.finished_at
        if row.id not in remembered:
            assert age > retention, f"forgotten after {age}, the retention being {retention}: {row}"
            jobs.forget(row.id)
        else:
            assert age <= retention + DAY, f"remembered after {age}, the retention being {retention}: {row}"
