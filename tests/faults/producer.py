"""Somebody who goes on enqueuing whatever happens to the server, and knows what was committed and what perhaps was."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from pgq_sync import NewJob, PgQueuer

_BATCH = 50  # jobs in a transaction
_PAUSE = 0.05  # seconds


class Producer:
    """Enqueues batches in transactions of its own.

    Args:
        pgq: the application.
        dsn: where to enqueue.
        order: what the jobs do.
    """

    def __init__(self, pgq: PgQueuer, dsn: str, order: dict[str, Any]) -> None:
        self.confirmed: list[int] = []
        self.perhaps: list[int] = []  # the server was asked to commit them, and did not answer
        self._pgq = pgq
        self._dsn = dsn
        self._jobs = [NewJob(entrypoint="work", payload=json.dumps(order))] * _BATCH
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="producer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with psycopg.connect(self._dsn, application_name="producer", connect_timeout=5) as connection:
                    while not self._stopping.wait(_PAUSE):
                        self._enqueue(connection)
            except psycopg.OperationalError:
                self._stopping.wait(_PAUSE)

    def _enqueue(self, connection: psycopg.Connection[Any]) -> None:
        ids = self._pgq.on(connection).enqueue_many(self._jobs)
        try:
            connection.commit()
        except psycopg.OperationalError:
            self.perhaps.extend(ids)
            raise
        self.confirmed.extend(ids)


@contextmanager
def producing(pgq: PgQueuer, dsn: str, **order: Any) -> Iterator[Producer]:
    """A producer at work meanwhile."""
    producer = Producer(pgq, dsn, order)
    producer.start()
    try:
        yield producer
    finally:
        producer.stop()
