"""What producers and operators do, and time."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from pgq_sync.models import DeclaredLimit, NewJob, OnConflict
from tests.storage.machine import operators
from tests.storage.machine.given import ages, entrypoints, keyed_jobs, limits, on_conflicts, pauses, plain_jobs, some_ids
from tests.storage.machine.limits import Pause
from tests.storage.machine.stage import Stage


class OperatorRules(RuleBasedStateMachine):
    """Rules of everybody but the workers."""

    stage: Stage

    def any_jobs(self) -> bool:
        return bool(self.stage.jobs.enqueued)

    def chosen(self, numbers: list[int], *statuses: str) -> list[int]:
        """Ids of jobs with these statuses first, then of all that there are, there were, and never were; the latest first."""
        likely = [row.id for row in self.stage.jobs.having(*statuses)]
        known = [*sorted(likely, reverse=True), *sorted(self.stage.jobs.enqueued, reverse=True), 10**9]
        return [known[number % len(known)] for number in numbers]

    @rule(job=plain_jobs | keyed_jobs, on_conflict=on_conflicts, notify=st.booleans())
    def enqueue(self, job: NewJob, on_conflict: OnConflict, notify: bool) -> None:
        self.stage.enqueue([job], on_conflict, notify)

    @rule(jobs=st.lists(plain_jobs, min_size=2, max_size=6))
    def enqueue_many(self, jobs: list[NewJob]) -> None:
        self.stage.enqueue(jobs, "raise", True)

    @rule(jobs=st.lists(plain_jobs | keyed_jobs, min_size=2, max_size=6), on_conflict=on_conflicts, notify=st.booleans())
    def enqueue_many_with_keys(self, jobs: list[NewJob], on_conflict: OnConflict, notify: bool) -> None:
        self.stage.enqueue(jobs, on_conflict, notify)

    @rule(jobs=st.lists(plain_jobs | keyed_jobs, min_size=1, max_size=3))
    def enqueue_and_roll_back(self, jobs: list[NewJob]) -> None:
        self.stage.enqueue_and_roll_back(jobs)

    @precondition(any_jobs)
    @rule(numbers=some_ids, reset_attempts=st.booleans())
    def requeue(self, numbers: list[int], reset_attempts: bool) -> None:
        ids = self.chosen(numbers, "held", "failed")
        result = self.stage.store.operations().requeue(ids, reset_attempts=reset_attempts)
        self.stage.announce(operators.requeue(self.stage.jobs, ids, reset_attempts, result))

    @precondition(any_jobs)
    @rule(numbers=some_ids)
    def cancel(self, numbers: list[int]) -> None:
        ids, store, jobs = self.chosen(numbers, "running"), self.stage.store, self.stage.jobs
        operators.cancel(jobs, ids, store.operations().cancel(ids))
        running = {row.id for row in jobs.having("running")}
        asked = store.cancel_requests(sorted(running))
        assert asked == running & jobs.requests, f"asked to end are {asked}, and not {running & jobs.requests}"

    @precondition(lambda self: self.stage.jobs.requests)
    @rule()
    def end_cancelled(self) -> None:
        operators.end_cancelled(self.stage.jobs, self.stage.store.end_cancelled())

    @precondition(any_jobs)
    @rule(numbers=some_ids)
    def delete(self, numbers: list[int]) -> None:
        ids = self.chosen(numbers)
        operators.delete(self.stage.jobs, ids, self.stage.store.operations().delete(ids))

    @rule(
        status=st.sampled_from(["queued", "held", "succeeded", "failed", "cancelled", "deleted"]),
        entrypoint=st.none() | entrypoints,
        age=ages,
    )
    def purge(self, status: str, entrypoint: str | None, age: timedelta) -> None:
        operations = self.stage.store.operations()
        planned = operations.count_purgeable(status, entrypoint=entrypoint, older_than=age)
        count = operations.purge(status, entrypoint=entrypoint, older_than=age)
        assert planned == count, f"{planned} were to be purged, and {count} were"
        operators.purge(self.stage.jobs, status, entrypoint, age, count)

    @rule(name=pauses)
    def pause(self, name: Pause) -> None:
        self.stage.pause(name)

    @rule(name=pauses | st.none())
    def resume(self, name: Pause | None) -> None:
        """One pause, which may not be there, or all of them."""
        for each in [name] if name else list(self.stage.limits.pauses):
            self.stage.resume(each)

    @rule(given=st.dictionaries(entrypoints, limits, min_size=1))
    def declare(self, given: dict[str, tuple[int, float | None, float | None] | None]) -> None:
        limited = [DeclaredLimit(name, *numbers) for name, numbers in given.items() if numbers and numbers != (0, None, None)]
        names = {limit.entrypoint for limit in limited}
        self.stage.declare(limited, [name for name in given if name not in names])
        self.stage.compare_limits()

    @rule(seconds=st.sampled_from([0.25, 0.5, 1, 2, 5, 16]))
    def move(self, seconds: float) -> None:
        self.stage.clock.move(seconds=seconds)
        self.stage.compare_limits()

    @rule(by=st.sampled_from([timedelta(minutes=11), timedelta(hours=9), timedelta(days=3)]))
    def move_far(self, by: timedelta) -> None:
        self.stage.clock.now += by

    @rule(days=st.sampled_from([1, 2, 7]))
    def maintain(self, days: int) -> None:
        retention = timedelta(days=days)
        self.stage.store.maintain(retention)
        operators.maintain(self.stage.jobs, retention, set(self.stage.world.rows()))
