"""Limits and pauses on PostgreSQL: one row each. Who takes tokens and counts what runs is the claim."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pgq_sync.models import DeclaredLimit, LimitChange, LimitRecord
from pgq_sync.storage.connections import Connections
from pgq_sync.storage.database import atomic
from pgq_sync.storage.failures import told, translated
from pgq_sync.storage.limit_rows import ANY, normal
from pgq_sync.storage.names import Names
from pgq_sync.storage.statements import statements
from pgq_sync.storage.store import Clock


class PostgresLimits:
    """The limits of one installation."""

    def __init__(self, connections: Connections, names: Names, clock: Clock) -> None:
        self._connections = connections
        self._sql = statements(names)
        self._told = told(names)
        self._translated = translated(names)
        self._clock = clock

    def pause(self, *, entrypoint: str | None, queue: str | None) -> bool:
        return self._switch("pause", entrypoint, queue)

    def resume(self, *, entrypoint: str | None, queue: str | None) -> bool:
        return self._switch("resume", entrypoint, queue)

    def _switch(self, statement: str, entrypoint: str | None, queue: str | None) -> bool:
        params = {"entrypoint": entrypoint or ANY, "queue": queue or ANY, "now": self._clock()}
        with self._told, self._connections.session() as session:
            return bool(session.run(self._sql[statement], params))

    def records(self) -> list[LimitRecord]:
        with self._told, self._connections.session() as session:
            rows = session.run(self._sql["limits"], {"now": self._clock()})
        return [LimitRecord(**dict(zip(_RECORD, row, strict=True))) for row in rows]

    def declare(self, limits: Sequence[DeclaredLimit], unlimited: Sequence[str]) -> list[LimitChange]:
        given = [normal(limit) for limit in limits]
        declared = {limit.entrypoint: limit for limit in [*map(DeclaredLimit, unlimited), *given]}
        with self._translated, self._connections.session() as session, atomic(session):
            new = session.run(self._sql["declare_new_limits"], self._arrays(given)) if given else []
            rows = session.run(self._sql["change_limits"], self._arrays(list(declared.values())))
            if new or rows:
                session.run(self._sql["everybody_look"])
        return [LimitChange(DeclaredLimit(*row[:4]), declared[row[0]]) for row in rows if row[4]]

    def _arrays(self, limits: Sequence[DeclaredLimit]) -> dict[str, Any]:
        return {
            "now": self._clock(),
            "entrypoints": [limit.entrypoint for limit in limits],
            "concurrency_limits": [limit.concurrency_limit for limit in limits],
            "rates": [limit.requests_per_second for limit in limits],
            "bursts": [limit.burst for limit in limits],
        }


_RECORD = ("entrypoint", "queue", "concurrency_limit", "requests_per_second", "burst", "tokens", "running", "paused_at")
