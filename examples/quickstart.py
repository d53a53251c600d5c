"""The smallest application. Run it with: pgq-sync worker examples.quickstart:pgq --embedded"""

from datetime import datetime

from pgq_sync import Job, PgQueuer, Schedule

pgq = PgQueuer.from_dsn()  # nothing is opened yet


@pgq.entrypoint("fetch")
def process_message(job: Job) -> None:
    print(f"Processed: {job!r}")


@pgq.schedule("cleanup", "0 * * * *")
def cleanup(schedule: Schedule) -> None:
    print(f"Hourly cleanup: {datetime.now()!r}")
