from __future__ import annotations

from pgq_sync import Job, NewJob, PgQueuer


def test_every_job_of_a_batch_runs_once(either: PgQueuer) -> None:
    seen = []

    @either.entrypoint("collect")
    def collect(job: Job) -> None:
        seen.append(job.payload)

    either.enqueue_many(NewJob(entrypoint="collect", payload=str(number)) for number in range(100))
    report = either.drain()

    assert report.counts == {"succeeded": 100}
    assert sorted(map(int, seen)) == list(range(100))
