"""A schedule whose every tick is noted."""

from __future__ import annotations

from pgq_sync import PgQueuer, Schedule
from tests.faults.records import Journal

pgq = PgQueuer.from_dsn()
journal = Journal.of_environment()


@pgq.schedule("second", "* * * * * *", store_result=True)
def second(schedule: Schedule) -> str:
    with journal.run(schedule.job) as token:
        return token
