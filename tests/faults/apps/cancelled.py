"""Jobs that wait to be asked to stop."""

from __future__ import annotations

from pgq_sync import Context, Job, PgQueuer
from tests.faults.records import Journal

PATIENCE = 20.0  # seconds; only a job that nobody asks runs so long

pgq = PgQueuer.from_dsn()
journal = Journal.of_environment()


@pgq.entrypoint("listens")
def listens(job: Job, context: Context) -> None:
    with journal.run(job):
        if context.cancelled.wait(PATIENCE):
            journal.note("asked", job)
        context.check()
