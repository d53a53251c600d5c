"""Huey 3.5 with its PostgreSQL storage, https://huey.readthedocs.io/en/latest/consumer.html

Defaults: one worker thread, as `huey_consumer` starts it, but without its log lines. Best: 4 worker processes; no-op jobs
per second on 2 cores: 1 thread 1570 to 1920, 4 threads 1540, 2 processes 2620 to 3020, 4 processes 2360 to 3420, 6 processes
3260 to 3510, 8 processes 3360. Threads share one connection behind a lock, so more of them help only jobs that wait, and
these less than processes do: jobs of 10 ms per second in 50 threads 470, without blocking 390, in 50 processes 640 to 690,
without blocking 530. Told how many to run at once, it takes processes, with up to two connections each. Greenlets would need
psycopg without its C extension (docs: PostgresStorage).

A job leaves the table when a worker fetches it, before it runs: a crash loses it. A job that returns nothing leaves
nothing behind, so no finished jobs are filled in. An enqueue commits by itself and cannot join the application's
transaction (docs: "Using Postgres for storage"). `map`, the way to enqueue many, does it one by one. A consumer serves one
queue (docs: "Multiple Queues"): several queues are served by as many consumers, which divide the workers among them.
"""

from __future__ import annotations

import math
import multiprocessing
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import psycopg
from huey import PostgresHuey
from huey.storage import BlackHoleStorage

from benchmarks.compare.drivers.base import PAYLOAD, About, Load, Work, handler
from benchmarks.compare.drivers.tally import Tally

_ID = "00000000-0000-0000-0000-000000000000"  # in whose place each row that is filled in gets an id of its own
_WEEK = 7 * 24 * 3600  # seconds
_MESSAGE = (
    "overlay((%(messages)s::bytea[])[1 + n %% cardinality(%(messages)s::bytea[])] "
    "placing convert_to(gen_random_uuid()::text, 'UTF8') from %(id_at)s for 36) from generate_series(1, %(jobs)s) as n"
)
_WAITING = f"insert into huey_task (queue, priority, data) select {{queue}}, n %% %(priorities)s, {_MESSAGE}"
_DEFERRED = (
    f"insert into huey_schedule (queue, timestamp, data) select {{queue}}, extract(epoch from now()) + %(delay)s, {_MESSAGE}"
)


_ABOUT = About(
    packages=("huey", "psycopg"),
    crash="is lost: its row is deleted before it runs",
    joins="no",
    finished="nothing",
    remarks={
        "waiting": "50 worker processes",
        "batches": "there is no way to enqueue many: `map` enqueues one by one",
        "loaded": "it keeps nothing of finished jobs: none are filled in",
    },
)


@dataclass(frozen=True)
class Huey:
    """So many workers of one kind in a consumer.

    Args:
        label: in tables and plots.
        configuration: in words.
        workers: of a consumer that is not told how many jobs it runs at once.
        kind: of these workers, `thread` or `process`.
    """

    label: str
    configuration: str
    workers: int
    kind: str

    about: ClassVar[About] = _ABOUT
    refuses: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "lanes: queues": "a consumer serves one queue, so that many queues need as many consumers",
            "enqueue: 100 in each": "an enqueue commits by itself, in no transaction of the application's",
        }
    )
    unfinished: ClassVar[str] = (
        "select (select count(*) from huey_task) "
        "+ (select count(*) from huey_schedule where timestamp <= extract(epoch from now()))"
    )

    def install(self, dsn: str) -> None:
        PostgresHuey(dsn=dsn)

    def fill(self, dsn: str, load: Load) -> None:
        queue = f"'queue_' || n %% {load.queues}" if load.queues > 1 else "'huey'"
        with psycopg.connect(dsn, autocommit=True) as connection:
            for sql, jobs, delay in ((_DEFERRED, load.deferred, _WEEK), (_WAITING, load.waiting, None)):
                messages = _messages(load, delay)
                values = {"messages": messages, "id_at": messages[0].index(_ID.encode()) + 1, "delay": delay}
                connection.execute(sql.format(queue=queue).encode(), {**values, "jobs": jobs, "priorities": load.priorities})

    @contextmanager
    def produce(self, dsn: str) -> Iterator[_Producer]:
        huey = PostgresHuey(dsn=dsn)
        try:
            yield _Producer(huey)
        finally:
            huey.storage.close()

    def work(self, dsn: str, work: Work, tally: Tally) -> None:
        if work.queues == 1:
            return self._consume(dsn, "huey", work, tally)
        arguments = [(dsn, f"queue_{number}", work, tally) for number in range(work.queues)]
        consumers = [multiprocessing.Process(target=self._consume, args=given) for given in arguments]
        for consumer in consumers:
            consumer.start()
        ended = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: ended.set())
        ended.wait()
        for consumer in consumers:
            consumer.terminate()
        for consumer in consumers:
            consumer.join()
        return None

    def _consume(self, dsn: str, queue: str, work: Work, tally: Tally) -> None:
        huey = PostgresHuey(queue, dsn=dsn)
        _tasks(huey, work, tally)
        kind = "process" if work.slots else self.kind
        workers = max((work.slots or self.workers) // work.queues, 1)
        huey.create_consumer(workers=workers, worker_type=kind, graceful_signal="TERM").run()


class _Producer:
    def __init__(self, huey: PostgresHuey) -> None:
        self._task = _tasks(huey, Work())[0]

    def enqueue(self, payload: str) -> None:
        self._task(payload)

    def enqueue_many(self, payloads: Sequence[str]) -> None:
        self._task.map(payloads)

    def transaction(self) -> AbstractContextManager[object]:
        return nullcontext()


def _tasks(huey: PostgresHuey, work: Work, tally: Tally | None = None) -> list[Any]:
    """Those that a worker runs; without a tally, those that can only be enqueued."""
    return [huey.task(name=f"entrypoint_{number}")(handler(work, tally)) for number in range(work.entrypoints)]


def _messages(load: Load, delay: int | None) -> list[bytes]:
    """One for each function at each priority, in the order in which they are given to the rows."""
    huey = PostgresHuey(storage_class=BlackHoleStorage)
    tasks = _tasks(huey, Work(entrypoints=load.entrypoints))
    made = []
    for number in range(math.lcm(load.entrypoints, load.priorities)):
        priority = number % load.priorities or None
        made.append(huey.serialize_task(tasks[number % load.entrypoints].s(PAYLOAD, id=_ID, priority=priority, delay=delay)))
    return made


DRIVERS = {
    "defaults": Huey("Huey", "one worker thread", 1, "thread"),
    "best": Huey("Huey (best)", "4 worker processes", 4, "process"),
}
