"""How a watcher learns from PostgreSQL that jobs have ended. Owned by its thread; only `cut_off` is for others.

Whoever ends a job that has a row in the table of watched ones notifies on a channel that no worker listens on.
"""

from __future__ import annotations

import math
import selectors
import socket
import time
from collections import deque
from collections.abc import Collection, Sequence
from types import TracebackType
from typing import Any, Literal
from uuid import UUID

import msgspec
import psycopg

from pgq_sync.models import Completion, JobId
from pgq_sync.storage.connections import pooled
from pgq_sync.storage.database import PsycopgSession, Row
from pgq_sync.storage.failures import translated
from pgq_sync.storage.names import ENDED, Names
from pgq_sync.storage.statements import statements
from pgq_sync.storage.store import Clock
from pgq_sync.storage.waker import Waker
from pgq_sync.storage.watching import Looked, Notice

_LONGEST_WAIT = 86_400.0  # seconds: some systems cannot wait for more than some weeks
_CANCEL_LIMIT = 0.3  # seconds
_message = msgspec.json.Decoder(tuple[Literal["ended", "removed"], list[int]])


class PostgresLookout:
    """A lookout on one direct connection.

    Args:
        connection: in autocommit, and nobody else's; the caller closes it.
        names: the tables' names.
        clock: the time that rows get.
        watcher_id: whose; the same on each connection of one watcher.
        waker: ends the wait.
    """

    def __init__(self, connection: psycopg.Connection[Any], names: Names, clock: Clock, watcher_id: UUID, waker: Waker) -> None:
        self.hears = False
        self._connection = connection
        self._sql = statements(names)
        self._translated = translated(names)
        self._clock = clock
        self._waker = waker
        self._watcher_id = watcher_id
        self._messages: deque[str] = deque()

    def __enter__(self) -> PostgresLookout:
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._connection.fileno(), selectors.EVENT_READ)
        self._selector.register(self._waker, selectors.EVENT_READ)
        try:
            with self._translated:
                self._listen()
        except BaseException:
            self._selector.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._selector.close()

    def _listen(self) -> None:
        # Behind a pooler the next statement may run in another session: nothing can be heard there.
        self.hears = not pooled(self._connection)
        if self.hears:
            # A server that crashes forgets which jobs are watched: so does it lose this session, and is told anew.
            self._connection.execute("set synchronous_commit to off")
            self._connection.add_notify_handler(lambda notification: self._messages.append(notification.payload))
            # Asked for, since a schema that is named here may have been found on the search_path at the install.
            ((channel,),) = self._run("channel")
            self._connection.execute(f'listen "{channel}{ENDED}"'.encode())

    def register(self, ids: Collection[int]) -> set[JobId]:
        return {row[0] for row in self._run("watch", ids)}

    def look(self, ids: Collection[int]) -> Looked:
        rows = self._run("watched", ids)
        return Looked(
            ended=[_completion(row) for row in rows if row[2] is not None],
            nowhere=[row[0] for row in rows if row[2] is None],
        )

    def leave(self, ids: Collection[int]) -> None:
        self._run("unwatch", ids)

    def heard(self) -> Sequence[Notice]:
        with self._translated:
            # What came with a statement's answer went to the handler; the rest lies in the socket, or in libpq.
            self._connection.pgconn.consume_input()
            while notification := self._connection.pgconn.notifies():
                self._messages.append(notification.extra.decode(errors="replace"))
        return [_notice(self._messages.popleft()) for _ in range(len(self._messages))]

    def wait(self, until: float = math.inf) -> None:
        if self._waker.is_set():
            return
        seconds = min(max(until - time.monotonic(), 0.0), _LONGEST_WAIT)
        if any(key.fileobj is self._waker for key, _ in self._selector.select(seconds)):
            self._waker.drain()

    def cut_off(self) -> None:
        # First the statement, so that the server does not go on with it; then the connection, should no answer come.
        for act in (self._cancel, self._shut):
            try:
                act()
            except (psycopg.Error, OSError):
                pass  # it is closed by now, or the server is away

    def _cancel(self) -> None:
        self._connection.cancel_safe(timeout=_CANCEL_LIMIT)

    def _shut(self) -> None:
        end = socket.socket(fileno=self._connection.fileno())
        try:
            end.shutdown(socket.SHUT_RDWR)
        finally:
            end.detach()  # it is the connection's to close

    def _run(self, name: str, ids: Collection[int] = ()) -> list[Row]:
        params = {"ids": list(ids), "watcher_id": self._watcher_id, "now": self._clock()}
        with self._translated:
            return PsycopgSession(self._connection).run(self._sql[name], params)


def _notice(message: str) -> Notice:
    try:
        return Notice(*_message.decode(message))
    except (msgspec.MsgspecError, RecursionError):
        return Notice("ended", None)  # whoever may connect may notify: it may mean anything


def _completion(row: Row) -> Completion:
    job_id, entrypoint, status, attempts, error, result = row
    error = None if status == "succeeded" else error
    return Completion(job_id=job_id, entrypoint=entrypoint, status=status, attempts=attempts, error=error, result=result)
