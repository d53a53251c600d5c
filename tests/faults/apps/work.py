"""The application of most faults: jobs that do as they are ordered and give back the token of their run."""

from __future__ import annotations

from pgq_sync import Job, PgQueuer
from tests.faults.apps.orders import Order
from tests.faults.records import Journal

pgq = PgQueuer.from_dsn()
journal = Journal.of_environment()


@pgq.entrypoint("work", store_result=True)
def work(job: Job) -> str:
    with journal.run(job) as token:
        Order.of(job).follow(job)
    return token
