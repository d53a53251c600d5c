"""What becomes of the jobs of a dead worker that somebody had asked to end, on both stores."""

from __future__ import annotations

from tests.storage.conftest import Timed
from tests.storage.test_rescue import dies, enqueue, lives, record, rescue


def test_a_job_that_was_asked_to_end_does_not_run_again_when_its_worker_dies(timed: Timed) -> None:
    ids = enqueue(timed, 3)
    _, claims = dies(timed)
    assert list(timed.store.operations().cancel(ids[:2]).asked) == ids[:2]
    timed.clock.move(minutes=1)
    with lives(timed) as one:
        assert [each.jobs for each in rescue(timed, one.worker)] == [len(claims)]
        assert [claim.job.id for claim in one.claim()] == ids[2:]
        assert not timed.store.cancel_requests(ids)
    for job_id in ids[:2]:
        ended = record(timed, job_id)
        assert (ended.status, [error["type"] for error in ended.errors]) == ("cancelled", ["WorkerDied", "Cancelled"])
