"""A connection that may be told not to wait for ever: a proxy that swallows every byte keeps its socket open.

Knows no SQL. The limit is of silence, not of time: a statement may take long while its answer or its parameters flow.
"""

from __future__ import annotations

import selectors
import time
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus

ANSWER_LIMIT = 30.0  # seconds: no statement of the engine takes as long, unless it waits for a lock
_CANCEL_LIMIT = 2.0  # seconds
_MOMENT = 0.05  # seconds: less than psycopg waits before it resumes without need
_Result = TypeVar("_Result")


class LimitedConnection(psycopg.Connection[Any]):
    """A psycopg connection with `answer_limit`: seconds of silence after which a statement is given up; None: never.

    A statement that is given up raises psycopg.OperationalError and leaves the connection closed. Whether it takes
    effect on the server is unknown.
    """

    answer_limit: float | None = None

    def wait(self, gen: PQGen[_Result], *args: Any, **kwargs: Any) -> _Result:
        if self.answer_limit is not None:
            gen = self._limited(gen, self.answer_limit)
        return super().wait(gen, *args, **kwargs)

    def _limited(self, gen: PQGen[_Result], limit: float) -> PQGen[_Result]:
        """`gen`, which psycopg resumes as soon as the socket is ready, and some times a second where it is not."""
        try:
            wanted = next(gen)
            resumed = heard = time.monotonic()
            while True:
                ready = yield wanted
                paused, resumed = resumed, time.monotonic()
                if ready and (resumed - paused < _MOMENT or self._is_ready(wanted)):
                    heard = resumed
                elif resumed - heard >= limit and self._owes_an_answer():
                    raise self._given_up(limit)
                wanted = gen.send(ready)
        except StopIteration as end:
            result: _Result = end.value
            return result

    def _is_ready(self, wanted: int) -> bool:
        # Before version 3.2.11, psycopg's C code calls the socket ready when it only did not want to wait any longer.
        with selectors.DefaultSelector() as selector:
            selector.register(self.pgconn.socket, wanted)
            return bool(selector.select(0))

    def _owes_an_answer(self) -> bool:
        # Not so while it waits for notifications.
        return self.pgconn.transaction_status == TransactionStatus.ACTIVE

    def _given_up(self, limit: float) -> psycopg.OperationalError:
        # If the server hears it, it does not go on with what nobody waits for. Older versions of libpq can cancel, but
        # not give that up in turn.
        if psycopg.capabilities.has_cancel_safe():
            try:
                self.cancel_safe(timeout=min(limit, _CANCEL_LIMIT))
            except psycopg.Error:
                pass  # it does not
        self.close()
        return psycopg.OperationalError(f"no answer from the server within {limit:g} s: the connection is closed")
