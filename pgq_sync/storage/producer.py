"""Enqueuing, the same for every store and connection: checks the jobs, slices large batches, keeps them all or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from itertools import chain
from typing import Any, Literal, overload

from msgspec.structs import replace

from pgq_sync.models import DedupeUntil, JobId, NewJob, OnConflict, Payload
from pgq_sync.settings import Settings
from pgq_sync.storage.intake import CheckedJob, check, check_on_conflict, refuse_unknown
from pgq_sync.storage.store import Intake

SLICE = 10_000  # jobs per statement
DEFAULT_QUEUE = "default"
_OPTIONS = (*NewJob.__struct_fields__, "on_conflict", "notify")


class Producer:
    """Enqueues jobs on one connection; `PgQueuer.on` makes it for the caller's, PgQueuer is one for its own.

    Args:
        intake: opens where the jobs are put in.
        settings: asked for at each use, since they may come from the environment.
        queue_of: the queue that an entrypoint was declared with, if any.
    """

    def __init__(
        self,
        intake: Callable[[], AbstractContextManager[Intake]],
        settings: Callable[[], Settings],
        queue_of: Callable[[str], str | None],
    ) -> None:
        self._intake = intake
        self._settings_now = settings
        self._queue_of = queue_of

    @overload
    def enqueue(
        self,
        entrypoint: str,
        payload: Payload = None,
        *,
        priority: int = 0,
        execute_after: timedelta | datetime | None = None,
        dedupe_key: str | None = None,
        dedupe_until: DedupeUntil = "finished",
        headers: Mapping[str, Any] | None = None,
        queue: str = "default",
        on_conflict: Literal["raise", "existing"] = "raise",
        notify: bool = True,
    ) -> JobId: ...

    @overload
    def enqueue(
        self,
        entrypoint: str,
        payload: Payload = None,
        *,
        priority: int = 0,
        execute_after: timedelta | datetime | None = None,
        dedupe_key: str | None = None,
        dedupe_until: DedupeUntil = "finished",
        headers: Mapping[str, Any] | None = None,
        queue: str = "default",
        on_conflict: Literal["skip", "replace"],
        notify: bool = True,
    ) -> JobId | None: ...

    def enqueue(
        self,
        entrypoint: str,
        payload: Payload = None,
        *,
        priority: int = 0,
        execute_after: timedelta | datetime | None = None,
        dedupe_key: str | None = None,
        dedupe_until: DedupeUntil = "finished",
        headers: Mapping[str, Any] | None = None,
        queue: str = "default",
        on_conflict: OnConflict = "raise",
        notify: bool = True,
        **unknown: Any,
    ) -> JobId | None:
        """Enqueues one job, in the transaction that the connection is in.

        Args:
            entrypoint: the name under which a function is registered, 1 to 200 characters.
            payload: bytes, or text that is stored as UTF-8, at most `Settings.max_payload` bytes.
            priority: within smallint; larger runs first.
            execute_after: not before: a timedelta from now by the database's clock, or an aware datetime. Past means now.
            dedupe_key: at most one unfinished job has this key, over all entrypoints.
            dedupe_until: whether the key is free again once the job is "finished", or already once it is "started".
            headers: a small mapping that JSON can express, stored beside the payload.
            queue: a group of jobs to which a worker may restrict itself, 1 to 200 characters; "default" means the queue
                that the entrypoint was declared with, if it was.
            on_conflict: what to do where the key is taken: "raise"; "skip" (None is returned); "existing" (the existing
                job's id is returned); "replace" (a queued or held job takes over everything of the new one, a running
                one is left alone and None returned).
            notify: False leaves it to the workers' polls to find the job: for bulk loads.

        Returns:
            The job's id, or None as `on_conflict` says.

        Raises:
            TypeError, ValueError: an argument cannot be used; the message names it and its value.
            PayloadTooLarge: the payload exceeds the limit.
            DuplicateJob: the key is taken; the caller's transaction stays usable.
            ConnectionError: the caller's connection is closed.
            SchemaError: the tables are missing; the driver's error is its cause. Its other errors pass unchanged.
        """
        if unknown:
            refuse_unknown(unknown, _OPTIONS)
        job = NewJob(
            entrypoint=entrypoint,
            payload=payload,
            priority=priority,
            execute_after=execute_after,
            dedupe_key=dedupe_key,
            dedupe_until=dedupe_until,
            headers=headers,
            queue=queue,
        )
        check_on_conflict(on_conflict)
        _check_notify(notify)
        settings = self._settings_now()
        checked = self._checked(job, settings.max_payload)
        with self._intake() as intake:
            return intake.add([checked], on_conflict=on_conflict, notify=notify and settings.notify)[0]

    @overload
    def enqueue_many(
        self, jobs: Iterable[NewJob], *, on_conflict: Literal["raise", "existing"] = "raise", notify: bool = True
    ) -> list[JobId]: ...

    @overload
    def enqueue_many(
        self, jobs: Iterable[NewJob], *, on_conflict: Literal["skip", "replace"], notify: bool = True
    ) -> list[JobId | None]: ...

    def enqueue_many(
        self, jobs: Iterable[NewJob], *, on_conflict: OnConflict = "raise", notify: bool = True
    ) -> list[JobId] | list[JobId | None]:
        """Enqueues many jobs, all or none, with one statement per 10,000, or per 20 MB of payloads.

        Args:
            jobs: consumed in slices, so that an iterator of millions needs little memory; from the first job with a
                dedupe key on they are gathered, since keys are inserted in their order.
            on_conflict: as in `enqueue`. Jobs of one batch meet each other as if they were enqueued one by one.
            notify: as in `enqueue`.

        Returns:
            One id (or None, as `on_conflict` says) per job, in their order.

        Raises:
            The errors of `enqueue`, which tell a refused job's index; nothing of the batch is enqueued then.
        """
        check_on_conflict(on_conflict)
        _check_notify(notify)
        settings = self._settings_now()
        if not isinstance(jobs, Iterable):
            raise TypeError(f"jobs={jobs!r} must be an iterable of NewJob, not {type(jobs).__name__}")
        slices = self._slices(jobs, settings.max_payload)
        notify = notify and settings.notify
        first = next(slices, [])
        if not first:
            return []
        with self._intake() as intake:
            if len(first) < SLICE:
                return intake.add(first, on_conflict=on_conflict, notify=notify)
            with intake.atomic():
                return _add_slices(intake, chain([first], slices), on_conflict, notify)

    def _slices(self, jobs: Iterable[NewJob], max_payload: int) -> Iterator[list[CheckedJob]]:
        checked: list[CheckedJob] = []
        for index, job in enumerate(jobs):
            try:
                checked.append(self._checked(job, max_payload))
            except (TypeError, ValueError) as error:
                error.args = (f"item {index}: {error}",)  # in place: PayloadTooLarge keeps its attributes
                raise
            if len(checked) == SLICE:
                yield checked
                checked = []
        if checked:
            yield checked

    def _checked(self, job: NewJob, max_payload: int) -> CheckedJob:
        if not isinstance(job, NewJob):
            raise TypeError(f"enqueue_many takes NewJob(entrypoint, ...), not {type(job).__name__}")
        checked = check(job, max_payload)
        if checked.queue == DEFAULT_QUEUE and (declared := self._queue_of(checked.entrypoint)):
            return replace(checked, queue=declared)
        return checked


def _check_notify(notify: object) -> None:
    if not isinstance(notify, bool):
        raise TypeError(f"notify={notify!r}: True or False is accepted, not {type(notify).__name__}")


def _add_slices(intake: Intake, slices: Iterator[list[CheckedJob]], on_conflict: OnConflict, notify: bool) -> list[JobId | None]:
    ids: list[JobId | None] = []
    for jobs in slices:
        if any(job.dedupe_key is not None for job in jobs):
            return ids + _add_in_key_order(intake, [*jobs, *chain.from_iterable(slices)], on_conflict, notify)
        ids += intake.add(jobs, on_conflict=on_conflict, notify=notify)
    return ids


def _add_in_key_order(intake: Intake, jobs: list[CheckedJob], on_conflict: OnConflict, notify: bool) -> list[JobId | None]:
    """Several statements that insert keys: in the order of their keys over all, lest two such batches wait for each other."""
    order = sorted(range(len(jobs)), key=lambda number: jobs[number].dedupe_key or "")
    ids: list[JobId | None] = [None] * len(jobs)
    for start in range(0, len(order), SLICE):
        numbers = order[start : start + SLICE]
        added = intake.add([jobs[number] for number in numbers], on_conflict=on_conflict, notify=notify)
        for number, job_id in zip(numbers, added, strict=True):
            ids[number] = job_id
    return ids
