"""Entrypoints with limits, beside others without."""

from __future__ import annotations

from pgq_sync import Job, PgQueuer
from tests.faults.apps.limits import LIMITS
from tests.faults.apps.orders import Order
from tests.faults.records import Journal

pgq = PgQueuer.from_dsn()
journal = Journal.of_environment()


def work(job: Job) -> str:
    with journal.run(job) as token:
        Order.of(job).follow(job)
    return token


for name, limit in LIMITS.items():
    pgq.entrypoint(name, store_result=True, **limit)(work)
