"""Celery 5.7 with Redis: jobs that no PostgreSQL holds, measured because many know its figures.

Defaults: prefork with a process for each core, and no result backend, as in "First Steps with Celery". Best: no-op jobs per
second on 2 cores: prefork with 2 processes 750 to 990; with 128 messages fetched ahead and without gossip, mingle and
heartbeat 870 to 930, 4 processes so 980, threads in place of processes (8) 910 to 1120; `solo` so 1090 to 1200. By
https://docs.celeryq.dev/en/stable/userguide/optimizing.html (prefetch limits) and
https://docs.celeryq.dev/en/stable/userguide/concurrency/index.html. Told how many jobs to run at once, best
takes threads, and the defaults fork so many processes.

Redis writes to disk now and then only: what it has confirmed can be lost, and so can what a worker has fetched, since Celery
acknowledges before a job runs. Nothing of a finished job is kept. An enqueue joins no transaction. Batches go through the
producer's `batch` of Kombu, one pipeline for each.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar
from uuid import uuid4

import celery
from redis import Redis

from benchmarks.compare.drivers.base import PAYLOAD, About, Load, Work, handler
from benchmarks.compare.drivers.tally import Tally

_WEEK = 7 * 24 * 3600  # seconds
_AT_ONCE = 1000  # messages
_PRIORITIES = 10  # from 0 to 9: what is beyond is taken for 9
_NO_TABLES = "its jobs lie in Redis, and what this measures lies in PostgreSQL"


_ABOUT = About(
    packages=("celery", "kombu", "redis"),
    crash="is lost: it is acknowledged before it runs",
    joins="no",
    finished="nothing",
    stored="in Redis's memory; a crash loses what came since the last snapshot",
    remarks={"lanes": "priorities go from 0 to 9, in four lists: the jobs are spread over these ten"},
)


@dataclass(frozen=True)
class Celery:
    """A worker with these options.

    Args:
        label: in tables and plots.
        configuration: in words.
        options: of `celery worker`, where it is not told how many jobs it runs at once.
        slotted: where it is told.
    """

    label: str
    configuration: str
    options: tuple[str, ...] = ()
    slotted: tuple[str, ...] = ()

    about: ClassVar[About] = _ABOUT
    refuses: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "loaded": "a worker takes all deferred jobs out of Redis at once and keeps them in its memory",
            "horizon": _NO_TABLES,
            "wal": _NO_TABLES,
            "enqueue: 100 in each": "an enqueue is sent to Redis at once, and joins no transaction",
        }
    )
    unfinished: ClassVar[None] = None

    def install(self, dsn: str) -> None:
        with Redis.from_url(dsn) as redis:
            redis.flushdb()

    def fill(self, dsn: str, load: Load) -> None:
        with Redis.from_url(dsn) as redis:
            for jobs, delay in ((load.deferred, _WEEK), (load.waiting, None)):
                messages = _messages(dsn, load, delay) if jobs else []
                for start in range(0, jobs, _AT_ONCE):
                    _push(redis, [messages[number % len(messages)] for number in range(start, min(start + _AT_ONCE, jobs))])

    @contextmanager
    def produce(self, dsn: str) -> Iterator[_Producer]:
        with celery.Celery("compared", broker=dsn) as app:
            yield _Producer(app)

    def work(self, dsn: str, work: Work, tally: Tally) -> None:
        app = celery.Celery("compared", broker=dsn)
        _tasks(app, work, tally)
        options = [*self.slotted, f"--concurrency={work.slots}"] if work.slots else self.options
        queues = ",".join(_queue(number, work.queues) for number in range(work.queues))
        app.worker_main(["worker", f"--queues={queues}", f"--hostname=compared{os.getpid()}@%h", *options])


class _Producer:
    def __init__(self, app: celery.Celery) -> None:
        self._app = app
        self._task = _tasks(app, Work())[0]

    def enqueue(self, payload: str) -> None:
        self._task.delay(payload)

    def enqueue_many(self, payloads: Sequence[str]) -> None:
        with self._app.producer_pool.acquire(block=True) as producer, producer.batch():
            for payload in payloads:
                self._task.apply_async((payload,), producer=producer)

    def transaction(self) -> AbstractContextManager[object]:
        return nullcontext()


def _tasks(app: celery.Celery, work: Work, tally: Tally | None = None) -> list[Any]:
    """Those that a worker runs; without a tally, those that can only be enqueued."""
    return [app.task(name=f"entrypoint_{number}")(handler(work, tally)) for number in range(work.entrypoints)]


def _queue(number: int, queues: int) -> str:
    return f"queue_{number % queues}" if queues > 1 else "celery"


@dataclass(frozen=True)
class _Message:
    """As Celery has written it, and in which list."""

    key: bytes
    text: bytes
    ids: tuple[bytes, ...]  # of which every copy has its own

    def copied(self) -> bytes:
        text = self.text
        for own in self.ids:
            text = text.replace(own, str(uuid4()).encode())
        return text


def _messages(dsn: str, load: Load, delay: int | None) -> list[_Message]:
    """One for each function, queue and priority, in the order in which they are given to the jobs."""
    aside = dsn.removesuffix("/0") + "/1"
    with celery.Celery("compared", broker=aside) as app, Redis.from_url(aside) as redis:
        tasks, made = _tasks(app, Work(entrypoints=load.entrypoints)), []
        priorities = min(load.priorities, _PRIORITIES)
        for number in range(math.lcm(load.entrypoints, load.queues, priorities)):
            options = {"queue": _queue(number, load.queues), "priority": number % priorities or None}
            tasks[number % load.entrypoints].apply_async((PAYLOAD,), countdown=delay, **options)
            made.append(_taken_back(redis, str(options["queue"])))
        return made


def _taken_back(redis: Redis, queue: str) -> _Message:
    """The only message of a queue, in the list of whatever priority."""
    lists = [queue.encode(), *(f"{queue}\x06\x16{step}".encode() for step in (3, 6, 9))]
    key, text = next((name, found) for name in lists if (found := redis.rpop(name)))
    message = json.loads(text)
    ids = (message["headers"]["id"], message["properties"]["delivery_tag"])
    return _Message(key, text, tuple(own.encode() for own in ids))


def _push(redis: Redis, messages: Sequence[_Message]) -> None:
    with redis.pipeline(transaction=False) as pipeline:
        for message in messages:
            pipeline.lpush(message.key, message.copied())
        pipeline.execute()


_LEAN = ("--without-gossip", "--without-mingle", "--without-heartbeat", "--prefetch-multiplier=128")

_SOLO = "solo pool, 128 messages fetched ahead, without gossip, mingle and heartbeat"
DRIVERS = {
    "defaults": Celery("Celery (Redis)", "prefork with a process for each core"),
    "best": Celery("Celery (Redis, best)", _SOLO, ("--pool=solo", *_LEAN), ("--pool=threads", *_LEAN)),
}
