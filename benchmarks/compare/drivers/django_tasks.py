"""django-tasks-db 0.13 on Django 5.2, https://github.com/RealOrangeOne/django-tasks-db

Defaults: one `db_worker`, without its log lines. No-op jobs per second on 2 cores: 110, for with Django's
own default the worker connects anew for each job (142 on a quieter machine); with persistent connections 176 to 335, the best
(https://docs.djangoproject.com/en/5.2/ref/databases/#persistent-connections), where it also looks for jobs ten times a second
in place of once (`--interval`). A `db_worker` runs one job at a time: told how many to run at once, as many of them are
forked. Finished jobs are kept. There is no way to enqueue many: it is done one by one in one transaction. Priorities go from
-100 to 100, so that of more than 101 only as many are filled in.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar

import django
import psycopg
from django.conf import settings
from django.core.management import call_command
from django.db import connection, transaction
from psycopg.conninfo import conninfo_to_dict

from benchmarks.compare.drivers.base import PAYLOAD, About, Load, Work
from benchmarks.compare.drivers.tally import Tally

_NEVER = "timestamptz '9999-01-01 00:00:00+00'"  # which stands in run_after of a job that is not deferred
_PRIORITIES = 101  # from 0 to the highest that there is
_ROWS = f"""
insert into django_tasks_database_dbtaskresult (id, status, enqueued_at, started_at, finished_at, args_kwargs, priority,
    task_path, worker_ids, queue_name, backend_name, run_after, return_value, exception_class_path, traceback)
select gen_random_uuid(), case when %(finished)s then 'SUCCESSFUL' else 'READY' end, clock_timestamp(),
    case when %(finished)s then now() end, case when %(finished)s then now() end,
    jsonb_build_object('args', jsonb_build_array(%(payload)s::text), 'kwargs', jsonb_build_object()), n %% %(priorities)s,
    %(module)s || '.entrypoint_' || n %% %(entrypoints)s,
    case when %(finished)s then jsonb_build_array(%(worker)s::text) else '[]' end,
    case when %(queues)s > 1 then 'queue_' || n %% %(queues)s else 'default' end, 'default',
    coalesce(now() + %(delay)s::interval, {_NEVER}), null, '', ''
from generate_series(1, %(jobs)s) as n
"""


_ABOUT = About(
    packages=("django-tasks-db", "Django", "psycopg"),
    crash="stays marked as running",
    joins="yes",
    finished="the row, until pruned",
    remarks={
        "lanes": "priorities go from -100 to 100: the jobs are spread over 101 of them",
        "waiting": "a worker runs one job at a time: 50 processes are forked",
        "batches": "there is no way to enqueue many: they are enqueued one by one in a transaction",
    },
)


@dataclass(frozen=True)
class DjangoTasks:
    """With these settings.

    Args:
        label: in tables and plots.
        configuration: in words.
        database: what DATABASES says beside the address.
        options: of `db_worker`.
    """

    label: str
    configuration: str
    database: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    about: ClassVar[About] = _ABOUT
    refuses: ClassVar[Mapping[str, str]] = MappingProxyType({})
    unfinished: ClassVar[str] = (
        "select count(*) from django_tasks_database_dbtaskresult "
        f"where status in ('READY', 'RUNNING') and (run_after <= now() or run_after = {_NEVER})"
    )

    def install(self, dsn: str) -> None:
        self._configure(dsn)
        call_command("migrate", verbosity=0)

    def fill(self, dsn: str, load: Load) -> None:
        shared = {"payload": PAYLOAD, "module": __name__, "worker": "w" * 32}
        kinds = {"entrypoints": load.entrypoints, "queues": load.queues, "priorities": min(load.priorities, _PRIORITIES)}
        with psycopg.connect(dsn, autocommit=True) as filling:
            for jobs, finished, delay in (
                (load.finished, True, None),
                (load.deferred, False, "7 days"),
                (load.waiting, False, None),
            ):
                filling.execute(_ROWS.encode(), {**shared, **kinds, "jobs": jobs, "finished": finished, "delay": delay})

    @contextmanager
    def produce(self, dsn: str) -> Iterator[_Producer]:
        self._configure(dsn)
        try:
            yield _Producer()
        finally:
            connection.close()

    def work(self, dsn: str, work: Work, tally: Tally) -> None:
        self._configure(dsn)
        _tasks(work, tally.ran)
        if not work.slots:
            return self._serve(work)
        workers = [multiprocessing.Process(target=self._serve, args=(work,)) for _ in range(work.slots)]
        for worker in workers:
            worker.start()
        ended = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: ended.set())
        ended.wait()
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.join()
        return None

    def _serve(self, work: Work) -> None:
        options = dict(self.options)
        if work.slots:  # else each of many would begin up to a second after the first
            options["startup_delay"] = False
        call_command("db_worker", queue_name="*" if work.queues > 1 else "default", verbosity=0, **options)

    def _configure(self, dsn: str) -> None:
        if settings.configured:
            return  # by another thread's producer
        address = {name.upper(): value for name, value in conninfo_to_dict(dsn).items() if name != "dbname"}
        database = {
            "ENGINE": "django.db.backends.postgresql",
            **address,
            "NAME": conninfo_to_dict(dsn)["dbname"],
            **self.database,
        }
        tasks = {"BACKEND": "django_tasks_db.DatabaseBackend", "QUEUES": []}  # any queue
        settings.configure(INSTALLED_APPS=["django_tasks_db"], DATABASES={"default": database}, TASKS={"default": tasks})
        django.setup()


class _Producer:
    def __init__(self) -> None:
        self._task = _tasks(Work(), _never)[0]

    def enqueue(self, payload: str) -> None:
        self._task.enqueue(payload)

    def enqueue_many(self, payloads: Sequence[str]) -> None:
        with transaction.atomic():
            for payload in payloads:
                self._task.enqueue(payload)

    def transaction(self) -> AbstractContextManager[object]:
        atomic: AbstractContextManager[object] = transaction.atomic()
        return atomic


def _tasks(work: Work, ran: Callable[[str], None]) -> list[Any]:
    """Puts them into this module, where the worker looks for them by their names."""
    from django_tasks import task  # which can be imported once Django is configured

    def noop(payload: str) -> None:
        ran(payload)

    def waiting(payload: str) -> None:
        time.sleep(work.pause)
        ran(payload)

    made = []
    for number in range(work.entrypoints):
        made.append(task(_named(waiting if work.pause else noop, f"entrypoint_{number}")))
        setattr(sys.modules[__name__], f"entrypoint_{number}", made[-1])
    return made


def _named(function: Callable[[str], None], name: str) -> Callable[[str], None]:
    """A function of its own under this name, for Django takes only those of modules."""

    def named(payload: str) -> None:
        function(payload)

    named.__name__ = named.__qualname__ = name
    return named


def _never(payload: str) -> None:
    raise AssertionError("a producer runs no jobs")


DRIVERS = {
    "defaults": DjangoTasks("django-tasks-db", "one `db_worker`"),
    "best": DjangoTasks(
        "django-tasks-db (best)",
        "one `db_worker` on a persistent connection, which looks each 0.1 s",
        {"CONN_MAX_AGE": None},
        {"interval": 0.1},
    ),
}
