"""Rivals of an operation: what happens before one of its statements, or as soon as it waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg

from pgq_sync.storage.connections import connect
from pgq_sync.storage.database import Params, PsycopgSession, Row
from pgq_sync.storage.names import Names
from pgq_sync.storage.operations import PostgresOperations
from pgq_sync.storage.statements import statements
from pgq_sync.storage.store import database_clock
from tests.storage.support import wait_until_blocked_by

CLAIM = "update pgq_job set status = 'running', attempt = attempt + 1 where id = %s"
RETRY = "update pgq_job set status = 'queued', worker_id = null, fence = null where id = %s and status = 'running'"


@dataclass(frozen=True)
class Interrupted:
    """A session on which something happens before certain statements."""

    session: PsycopgSession
    before: Callable[[str, Params], object]  # gets the statement's name and its parameters

    def run(self, sql: str, params: Params | None = None) -> list[Row]:
        names = [name for name, text in statements(Names()).items() if text == sql]
        self.before(names[0] if names else sql, params or {})
        return self.session.run(sql, params)

    @property
    def in_autocommit(self) -> bool:
        return self.session.in_autocommit


@contextmanager
def interrupted(dsn: str, before: Callable[[str, Params], object]) -> Iterator[PostgresOperations]:
    with closing(connect(dsn, "test")) as connection:

        @contextmanager
        def session() -> Iterator[Interrupted]:
            yield Interrupted(PsycopgSession(connection), before)

        yield PostgresOperations(session, Names(), database_clock, lambda: None)


@contextmanager
def while_it_waits(dsn: str, holder: psycopg.Connection[Any], act: Callable[[], object]) -> Iterator[ThreadPoolExecutor]:
    """Something for another thread to do, which will wait for `holder`; `act` happens as soon as it does."""
    with ThreadPoolExecutor(2) as threads:

        def end() -> None:
            try:
                wait_until_blocked_by(dsn, holder.info.backend_pid)
            finally:
                act()

        ending = threads.submit(end)
        yield threads
        ending.result()
