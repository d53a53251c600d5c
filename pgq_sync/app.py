"""PgQueuer: wires registry, store and engine together, and holds no logic of its own.

Longer than other files for its docstrings: they are the reference of the public calls.
"""

from __future__ import annotations

import os
from collections.abc import Callable, MutableMapping, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, Literal, overload

import psycopg
from psycopg_pool import ConnectionPool

from pgq_sync.engine.environment import Environment
from pgq_sync.engine.watcher import CompletionWatcher, result_of
from pgq_sync.engine.worker import Worker, WorkReport
from pgq_sync.entrypoints.context import Context
from pgq_sync.entrypoints.options import EntrypointOptions, TaskOptions, TickOptions
from pgq_sync.entrypoints.registry import Handler, Registry
from pgq_sync.entrypoints.task_decorator import NoContext, R, TaskDecorator, check_job_options
from pgq_sync.entrypoints.tasks import ContextTask, DedupeKey, P, Task
from pgq_sync.errors import ConfigError
from pgq_sync.models import Completion, DedupeUntil, QueueExecutionMode
from pgq_sync.settings import Settings
from pgq_sync.storage.backend import Backend, Connect, require_kind
from pgq_sync.storage.clock import RowClock
from pgq_sync.storage.connections import ForeignConnection, ForeignPool, OwnPool
from pgq_sync.storage.doctor import Finding, diagnose
from pgq_sync.storage.jobs import JobBook
from pgq_sync.storage.limit_book import LimitBook
from pgq_sync.storage.producer import Producer
from pgq_sync.storage.schedule_book import ScheduleBook
from pgq_sync.storage.schema import Schema
from pgq_sync.storage.store import OWN, Intake, Store

if TYPE_CHECKING:
    from typing_extensions import Unpack

Resources = MutableMapping[Any, Any]


class PgQueuer(Producer):
    """The application's object: enqueues jobs, declares who serves them, and runs them.

    Make it with `from_dsn`, `from_psycopg_pool`, `from_psycopg_connection` or `in_memory`. It may be used from many
    threads and after a fork; nothing is opened, and no environment read, before it is first used.

    Args:
        connect: makes the source of connections; None: there is no database.
        settings: or what reads them, at the first use; None: `Settings.from_env`.
        resources: the mapping that every job and schedule of the process gets as `context.resources`.
    """

    def __init__(
        self, connect: Connect | None, settings: Settings | Callable[[], Settings] | None, resources: Resources | None
    ) -> None:
        self.registry = Registry()
        self.resources: Resources = {} if resources is None else resources
        self.environment: Environment | None = None  # the framework in which handlers run
        self.backend = Backend(connect, settings or Settings.from_env, RowClock())  # tests put another in its place
        super().__init__(lambda: self.store.intake(), lambda: self.settings, self.registry.queue_of)

    @classmethod
    def from_dsn(
        cls, dsn: str | None = None, *, settings: Settings | None = None, resources: Resources | None = None
    ) -> PgQueuer:
        """On a connection pool of its own.

        Args:
            dsn: the database; without one `Settings.dsn`, then `PGQ_DSN`, `DATABASE_URL` and libpq's `PG*` variables
                tell it.
            settings: by default those of the environment's `PGQ_*` variables.
            resources: shared by all jobs and schedules of the process.

        Raises:
            TypeError: the DSN is no str.
            ConfigError: at first use: nothing names a database, or the DSN cannot be parsed.
        """
        require_kind("dsn", dsn, (str, type(None)), "a str or None")
        return cls(lambda settings: OwnPool(settings, dsn), settings, resources)

    @classmethod
    def from_psycopg_pool(
        cls, pool: ConnectionPool[Any], *, settings: Settings | None = None, resources: Resources | None = None
    ) -> PgQueuer:
        """On the caller's psycopg_pool, which is never closed; a worker's listener connects apart, with its parameters.

        Raises:
            TypeError: it is no psycopg_pool.ConnectionPool.
        """
        require_kind("pool", pool, ConnectionPool, "a psycopg_pool.ConnectionPool")
        return cls(lambda settings: ForeignPool(pool, settings), settings, resources)

    @classmethod
    def from_psycopg_connection(
        cls, connection: psycopg.Connection[Any], *, settings: Settings | None = None, resources: Resources | None = None
    ) -> PgQueuer:
        """On the caller's connection, in whatever transaction it is in; it is never closed.

        Unless the connection is in autocommit, the caller commits, as with any statement. A worker opens connections
        of its own with the same parameters.

        Raises:
            TypeError: it is no psycopg.Connection.
        """
        require_kind("connection", connection, psycopg.Connection, "a psycopg.Connection, as psycopg.connect(dsn) gives one")
        return cls(lambda settings: ForeignConnection(connection, settings), settings, resources)

    @classmethod
    def in_memory(cls, *, settings: Settings | None = None, resources: Resources | None = None) -> PgQueuer:
        """Without a database: the same behaviour within one process, for tests and first steps."""
        return cls(None, settings, resources)

    @property
    def settings(self) -> Settings:
        """The settings in force.

        Raises:
            ConfigError: a `PGQ_*` variable cannot be used.
        """
        return self.backend.settings

    @property
    def store(self) -> Store:
        """Where the jobs are: for tests and for tools that are built on top."""
        return self.backend.store

    @property
    def jobs(self) -> JobBook:
        """The jobs themselves: get, find, held, count, requeue, cancel, delete, purge."""
        return JobBook(self.store.operations())

    @property
    def limits(self) -> LimitBook:
        """What the fleet is limited to: list, pause, resume."""
        return LimitBook(self.store.limits)

    @property
    def schedules(self) -> ScheduleBook:
        """The schedules: list, add, pause, resume, remove, run_now."""
        return ScheduleBook(self.store.schedules, lambda: self.settings.max_payload, self.registry.queue_of)

    @property
    def schema(self) -> Schema:
        """The tables: install, upgrade, verify, uninstall, durability, autovac.

        Raises:
            ConfigError: there is no database.
        """
        if not self.backend.has_database:
            raise ConfigError("an in-memory PgQueuer has no schema: nothing needs to be installed")
        return Schema(self.backend.connections, self.backend.names)

    def on(self, connection: Any) -> OnConnection:
        """The calls `enqueue` and `enqueue_many`, `jobs` and `schedules`, bound to the caller's connection and its transaction.

        Args:
            connection: a psycopg connection or cursor, a Django connection or its alias, an SQLAlchemy Session,
                Connection or scoped_session. In memory it is checked, and otherwise not used.

        Raises:
            TypeError: at the first use: it is none of these, or an async one.
            ConnectionError: at the first use: it is closed.
        """
        return OnConnection(self, connection)

    def entrypoint(self, name: str, **options: Unpack[EntrypointOptions]) -> Callable[[Handler], Handler]:
        """Registers the decorated function as the one that serves jobs of this name. It stays a plain callable.

        The function takes the job, and the context as well if a parameter is annotated with `Context`, or the one after the
        job has neither annotation nor default.

        Args:
            name: 1 to 200 characters, once per application.
            queue: where its jobs are enqueued unless the caller names another queue than "default".
            concurrency_limit: how many of its jobs run at once; 0: as many as there are slots.
            requests_per_second: how many of its jobs start in a second, on average.
            burst: how many may start at once after a pause; by default one second's worth, and at least one.
            limit_scope: "fleet": the limits hold over all workers; "worker": for each of them.
            timeout: how long an attempt may take, as a timedelta or in seconds. Then `JobTimeout` is raised in the handler.
            retry: when to try a failed job again through the database.
            on_failure: "fail": a job that failed for good goes to history; "hold": it is parked for a person.
            executor_factory: makes the strategy by which the function is called; gets `EntrypointExecutorParameters`.
            accepts_context: overrides what the annotations say.
            transactional: `context.connection` is in a transaction, in which the job's completion is written as well: what
                the handler does on it takes effect exactly once.
            store_result: keep what the function returns, as JSON.
            keep_history: False forgets jobs that succeeded.

        Raises:
            ValueError: a value is out of range, or the name is registered already.
            TypeError: the function is async, a generator, or cannot be called with a job, as `(order_id: int)` cannot; or a
                value is no number.
        """
        return self.registry.entrypoint(name, **options)

    # A function that takes anything first may be called with a context as well as without one: its arguments stay unchecked.
    @overload
    def task(self, func: Callable[Concatenate[NoContext, P], R], /) -> Task[..., R]: ...

    @overload
    def task(self, func: Callable[Concatenate[Context, P], R], /) -> ContextTask[P, R]: ...

    @overload
    def task(self, func: Callable[P, R], /) -> Task[P, R]: ...

    @overload
    def task(
        self,
        name: str | None = None,
        /,
        *,
        priority: int = 0,
        dedupe_key: DedupeKey = None,
        dedupe_until: DedupeUntil = "finished",
        on_conflict: Literal["raise", "existing"] = "raise",
        **options: Unpack[TaskOptions],
    ) -> TaskDecorator: ...

    def task(
        self,
        name: Any = None,
        /,
        *,
        priority: int = 0,
        dedupe_key: DedupeKey = None,
        dedupe_until: DedupeUntil = "finished",
        on_conflict: Literal["raise", "existing"] = "raise",
        **options: Unpack[TaskOptions],
    ) -> Any:
        """Makes a task of the decorated function: its jobs carry its arguments, as JSON.

        The task is called like the function; `task.enqueue(...)` takes the same arguments, and enqueues a job for them. The
        function gets the context if its first parameter is annotated `Context`. What it returns is stored as the result.

        Args:
            name: of the entrypoint; by default `module.qualname` of the function.
            priority, dedupe_until: of its jobs, as in `enqueue`; `task.using(...)` changes them for some.
            dedupe_key: of its jobs: a text, or what makes it from the arguments, which it gets by name.
            on_conflict: "raise" or "existing", as in `enqueue`; the others by `task.using(...)`.
            options: those of `entrypoint`, save `accepts_context`; store_result is True by default.

        Raises:
            TypeError: the function can be no task, or the annotation of a parameter none that JSON can express.
            TypeError, ValueError: an option cannot be used, or the name is registered already.
        """
        jobs = check_job_options(priority, dedupe_key, dedupe_until, on_conflict)
        named = name is None or isinstance(name, str)
        declare = TaskDecorator(
            registry=self.registry, on=self._producer_on, name=name if named else None, jobs=jobs, options=options
        )
        return declare if named else declare(name)

    def schedule(self, name: str, expression: str, **options: Unpack[TickOptions]) -> Callable[[Handler], Handler]:
        """Registers the decorated function to run at the times that a cron expression names.

        Each tick is an ordinary job, enqueued once over the whole fleet. The function takes the `Schedule`, and a
        `ScheduleContext` as a function of `entrypoint` takes the context.

        Args:
            name: of the schedule, and of the entrypoint that its jobs have.
            expression: five cron fields, six with seconds last, or @hourly and the like, as croniter reads them. One
                name may have several, each by a decorator of its own on the same function.
            timezone: in which the expression is meant: an IANA name.
            on_missed: what becomes of ticks that are older than the setting `misfire_grace` when a worker comes to
                them: "once" runs one job for all of them, "all" one for each, "skip" none.
            clean_old: remove the expressions of this name that are not declared any more, when a worker starts.
            jitter: put each job off by a random time up to this one, a timedelta or seconds.
            queue, priority: of the ticks' jobs.
            options: those of `entrypoint`.

        Raises:
            TypeError, ValueError: the expression or the time zone is not understood, a value cannot be used, or the name
                is registered already.
        """
        return self.registry.schedule(name, expression, **options)

    def worker(
        self,
        *,
        concurrency: int | None = None,
        queues: Sequence[str] | None = None,
        entrypoints: Sequence[str] | None = None,
        mode: QueueExecutionMode = QueueExecutionMode.continuous,
        batch_size: int | None = None,
        scheduler: bool = True,
        max_jobs: int | None = None,
        name: str | None = None,
        **settings: Any,
    ) -> Worker:
        """A worker that is not started yet.

        Args:
            concurrency: how many jobs run at once; by default `Settings.concurrency`.
            queues: only jobs of these queues; None: of all.
            entrypoints: only these of the registered entrypoints; None: all of them.
            mode: drain stops when nothing is claimable now and nothing runs; deferred jobs do not keep it.
            batch_size: the most jobs to claim at once; None adapts it to how long jobs take.
            scheduler: whether this worker fires schedules too; while it drains it does not.
            max_jobs: stop after so many.
            name: how the fleet calls this worker; by default host and process id.
            settings: further fields of `Settings` for this worker: poll_interval, shutdown_timeout ...

        Raises:
            ConfigError: nothing is registered, an entrypoint is unknown, or a value is out of range.
        """
        chosen = self._worker_settings(concurrency=concurrency, batch_size=batch_size, **settings)
        if max_jobs is not None and max_jobs < 1:
            raise ConfigError(f"max_jobs={max_jobs!r}: a whole number from 1 up is accepted")
        worker = Worker(
            self.store.for_engine(handlers=chosen.concurrency + chosen.max_stuck),
            self.registry,
            chosen,
            resources=self.resources,
            # Children of a job never join a transaction that the caller's connection happens to be in.
            produce=self._producer,
            environment=self.environment,
            queues=queues,
            entrypoints=entrypoints,
            mode=QueueExecutionMode(mode),
            scheduler=scheduler,
            max_jobs=max_jobs,
            name=name,
        )
        self.backend.workers[worker.info.worker_id] = worker
        return worker

    def run(self, **options: Any) -> WorkReport:
        """Runs a worker, with the options of `worker`, until it is stopped by SIGTERM or SIGINT or has drained.

        Returns:
            What it did.

        Raises:
            SchemaError: the database's schema is missing or not this version's.
            StoreUnavailable: the database could not be reached at the start.
        """
        return self.worker(**options).run()

    def drain(self, **options: Any) -> WorkReport:
        """Works until nothing is claimable now and nothing runs, and tells what was done. Options as in `worker`.

        Raises:
            TypeError: a mode is given.
        """
        if "mode" in options:
            raise TypeError(f"drain() has its mode, and takes no mode={options['mode']!r}: pgq.run(mode=...) does")
        return self.run(mode=QueueExecutionMode.drain, **options)

    def wait(self, job_id: int, timeout: timedelta | float | None = None) -> Completion:
        """Waits until a job has ended: as succeeded, failed, cancelled or deleted, or is held.

        All callers in a process share one thread and one connection, which go some seconds after the last.

        Args:
            job_id: of a job that is committed.
            timeout: how long at most, as a timedelta or in seconds; None: however long it takes.

        Raises:
            JobNotFound: there is no such job: it is unknown, not committed yet, or forgotten.
            TimeoutError: it has not ended in time.
            TypeError, ValueError: no job can have this id, or the timeout is no duration.
            SchemaError: the tables are missing, or the database's user may not wait.
            WaitEnded: `close` was called meanwhile; it is a `concurrent.futures.CancelledError` too.
        """
        return self._watcher.wait_for(job_id, timeout)

    def result(self, job_id: int, timeout: timedelta | float | None = None) -> Any:
        """Waits until a job has ended; returns what its function returned, where results are stored, else None.

        Args:
            job_id, timeout: as in `wait`.

        Raises:
            JobFailed: it has not succeeded; the traceback in the worker is its cause.
            JobNotFound, TimeoutError, TypeError, ValueError, WaitEnded: as in `wait`.
        """
        return result_of(self.wait(job_id, timeout))

    def doctor(self) -> list[Finding]:
        """Examines the database, the connection and the jobs.

        Returns:
            One finding per check at least; those of level "error" should never be.

        Raises:
            ConfigError: there is no database.
        """
        return list(diagnose(self.backend.connections, self.backend.names, self.settings.misfire_grace))

    def close(self) -> None:
        """Closes what this object opened; later use opens again."""
        self.backend.close()

    def __enter__(self) -> PgQueuer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def _producer(self, intake: Callable[[], AbstractContextManager[Intake]]) -> Producer:
        return Producer(intake, lambda: self.settings, self.registry.queue_of)

    def _producer_on(self, connection: Any) -> Producer:
        return self if connection is OWN else self.on(connection)

    @property
    def _watcher(self) -> CompletionWatcher:
        # A forked child makes one of its own.
        watcher: CompletionWatcher = self.backend.keep(f"watcher of {os.getpid()}", lambda: CompletionWatcher(self))
        return watcher

    def _worker_settings(self, **changes: Any) -> Settings:
        return self.settings.replace(**{name: value for name, value in changes.items() if value is not None})


class OnConnection(Producer):
    """What `PgQueuer.on` returns: the same calls on the caller's connection, in whatever transaction it is in."""

    def __init__(self, pgq: PgQueuer, connection: Any) -> None:
        super().__init__(lambda: pgq.store.intake(connection), lambda: pgq.settings, pgq.registry.queue_of)
        self._pgq = pgq
        self._connection = connection

    @property
    def jobs(self) -> JobBook:
        """The jobs, as `PgQueuer.jobs`."""
        return JobBook(self._pgq.store.operations(self._connection))

    @property
    def schedules(self) -> ScheduleBook:
        """The schedules, as `PgQueuer.schedules`."""
        schedules = self._pgq.store.schedules_on(self._connection)
        return ScheduleBook(schedules, lambda: self._pgq.settings.max_payload, self._pgq.registry.queue_of)
