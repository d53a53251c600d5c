"""Runs jobs and schedules here and now: in the thread of the test, without a worker."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, MutableMapping
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timezone
from typing import Any
from uuid import UUID

from pgq_sync.app import PgQueuer
from pgq_sync.engine import inline
from pgq_sync.engine.inline import Inline
from pgq_sync.engine.runner import Produce
from pgq_sync.engine.worker import WorkReport
from pgq_sync.models import Job, JobId, NewJob, Payload
from pgq_sync.storage.intake import check
from pgq_sync.storage.producer import Producer
from pgq_sync.testing.calls import payload_of
from pgq_sync.testing.clock import MovableClock
from pgq_sync.testing.naming import name_of, registered
from pgq_sync.testing.overriding import where

_NOBODY = UUID(int=0)


def make_job(
    entrypoint: object,
    payload: Payload = None,
    *,
    headers: Mapping[str, Any] | None = None,
    attempt: int = 1,
    priority: int = 0,
    queue: str = "default",
    dedupe_key: str | None = None,
    now: datetime | None = None,
) -> Job:
    """A job as a worker would have claimed it, to call a handler with: it stands in no store, and has the id 0.

    Args:
        entrypoint: its name, or an object that has one as `name`.
        payload, headers, priority, queue, dedupe_key: as in `PgQueuer.enqueue`.
        attempt: its number, from 1.
        now: when it was enqueued, due and claimed; by default this moment.

    Raises:
        TypeError, ValueError: an argument cannot be used; the message names it and its value.
    """
    if not isinstance(attempt, int) or isinstance(attempt, bool) or attempt < 1:
        raise ValueError(f"attempt={attempt!r}: a whole number from 1 up is accepted")
    new = NewJob(
        entrypoint=name_of(entrypoint), payload=payload, headers=headers, priority=priority, queue=queue, dedupe_key=dedupe_key
    )
    checked = check(new, max_payload=sys.maxsize)  # it is not enqueued
    moment = now or datetime.now(timezone.utc)
    read = None if checked.headers is None else json.loads(checked.headers)
    return Job(
        *(JobId(0), checked.queue, checked.entrypoint, checked.payload, read, checked.priority, attempt),
        *(moment, moment, moment, checked.dedupe_key, _NOBODY),
    )


def run_job(
    pgq: PgQueuer,
    entrypoint: object,
    payload: Payload = None,
    *,
    arguments: tuple[Any, ...] | None = None,
    headers: Mapping[str, Any] | None = None,
    attempt: int = 1,
    priority: int = 0,
    queue: str = "default",
    dedupe_key: str | None = None,
    resources: MutableMapping[Any, Any] | None = None,
    connection: Any = None,
) -> Any:
    """Runs one attempt of an entrypoint in this thread, by its executor, with a job that is not stored.

    The attempt has its `timeout`, and with `transactional=True` a transaction, which is committed if the handler returns.
    What the handler enqueues by its context is enqueued.

    Args:
        pgq: the application.
        entrypoint: the name of a registered one, or an object that has one as `name`.
        payload, headers, attempt, priority, queue, dedupe_key: of the job, as in `make_job`.
        arguments: in place of a payload, where `entrypoint` is a task: `(7,)`, or `((8,), {"copy": True})`, as one of the
            calls of `task.enqueue_many`.
        resources: `context.resources`; by default those of `pgq`.
        connection: works in the transaction that it is in, as `on_connection` says; None: on those of `pgq`.

    Returns:
        What the handler returned.

    Raises:
        ConfigError: no such entrypoint is registered; the message names those that are spelled alike.
        TypeError: the task does not take `arguments`, it is none, or there is a payload as well.
        Retry, Hold, Cancelled, JobTimeout, or any other error: what came out of the attempt, as a worker would see it.
    """
    name = registered(pgq, entrypoint)
    if arguments is not None:
        if payload is not None:
            raise TypeError(f"payload={payload!r}: arguments={arguments!r} are given in its place")
        payload = payload_of(entrypoint, arguments)
    chosen = pgq.registry.queue_of(name) or queue if queue == "default" else queue
    job = make_job(
        name,
        payload,
        headers=headers,
        attempt=attempt,
        priority=priority,
        queue=chosen,
        dedupe_key=dedupe_key,
        now=pgq.backend.clock(),
    )
    with where(pgq, connection):
        store = pgq.store.for_engine()
        try:
            given = pgq.resources if resources is None else resources
            return inline.attempt(pgq.registry.get(name), job, store, given, _producing(pgq), pgq.environment)
        finally:
            store.close()


def drain(pgq: PgQueuer, *, connection: Any = None, max_jobs: int | None = None) -> WorkReport:
    """Runs every job that is due, one after the other in this thread, until none is: what they enqueue included.

    In the order of a worker with one slot: larger priorities first, then the earliest due. Jobs that are paused are left, and
    so are deferred ones and retries that are not due yet. Limits do not apply: there is but one thread, which waits for
    nothing. Timeouts do, but cut off no statement on the connection. A handler that always raises `Retry(0)` never comes to
    an end: `max_jobs` bounds it.

    Args:
        pgq: the application.
        connection: everything happens in the transaction that it is in, as `on_connection` says, and nothing is committed;
            transactional handlers get the psycopg connection beneath it, inside a savepoint. What a handler's failed
            statement has spoilt is undone as far as the handler goes. None: on the connections of `pgq`.
        max_jobs: the most attempts; None: as many as there are.

    Returns:
        What was done.

    Raises:
        ConfigError: nothing is registered.
        ValueError: `max_jobs` is not positive, or the connection is in autocommit.
        TypeError, ConnectionError: the connection cannot be used.
        KeyboardInterrupt: Ctrl-C was pressed; the job that ran is queued again, and has spent no attempt.
    """
    if max_jobs is not None and (not isinstance(max_jobs, int) or isinstance(max_jobs, bool) or max_jobs < 1):
        raise ValueError(f"max_jobs={max_jobs!r}: a whole number from 1 up is accepted, or None")
    with where(pgq, connection):
        store = pgq.store.for_engine()
        try:
            return Inline(store, pgq.registry, pgq.settings, pgq.resources, _producing(pgq), pgq.environment).drain(max_jobs)
        finally:
            store.close()


def tick(pgq: PgQueuer, *, connection: Any = None) -> None:
    """Enqueues the jobs of the schedules that are due, once, as a worker's scheduler would. `drain` runs them.

    A schedule that no scheduler has met yet counts from where the movable clock has started, or else from now.

    Args:
        pgq: the application.
        connection: works in the transaction that it is in, as `on_connection` says; None: on those of `pgq`.
    """
    with where(pgq, connection):
        schedules = pgq.store.schedules
        if declared := pgq.registry.schedules():
            with _at_the_start(pgq):
                schedules.declare(declared)
        while schedules.tick(pgq.registry.names(), None, pgq.settings.misfire_grace) == 0:
            pass  # there is more to do


def _at_the_start(pgq: PgQueuer) -> AbstractContextManager[None]:
    """Has the clock say what it said at first, if it is a movable one."""
    source = pgq.backend.clock.source
    return pgq.backend.clock.replaced(lambda: source.started_at) if isinstance(source, MovableClock) else nullcontext()


def _producing(pgq: PgQueuer) -> Produce:
    return lambda intake: Producer(intake, lambda: pgq.settings, pgq.registry.queue_of)
