"""The statements of the hot path never read the whole table, whatever PostgreSQL knows of it and however it plans."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from pgq_sync.engine.limits import LocalLimits
from pgq_sync.models import Claim
from pgq_sync.storage.claimer import PostgresClaimer
from pgq_sync.storage.connections import connect
from pgq_sync.storage.database import PsycopgSession, Session
from pgq_sync.storage.names import Names
from pgq_sync.storage.postgres import PostgresStore
from pgq_sync.storage.store import database_clock
from tests.storage.support import POLL_INTERVAL, Hand, query, worker

ROWS = 100_000
ENTRYPOINTS = tuple(f"e{number}" for number in range(10))


@dataclass(frozen=True)
class OneConnection:
    """Gives every session the same connection, on which one transaction stays open."""

    connection: psycopg.Connection[Any]

    @contextmanager
    def session(self, *, patient: bool = True) -> Iterator[Session]:
        yield PsycopgSession(self.connection, prepare=True)

    def direct(self, *, listening: bool = False) -> psycopg.Connection[Any]:
        return self.connection

    def for_engine(self, *, handlers: int = 1) -> Any:
        return self

    def close(self) -> None:
        """The test closes it."""


class Observed:
    """A worker's hand on a connection of the engine's own kind, every statement of it prepared, in one transaction.

    Within a transaction PostgreSQL's counters grow with each statement, and nobody else can touch them.
    """

    def __init__(self, hand: Hand, connection: psycopg.Connection[Any]) -> None:
        self.hand = hand
        self._connection = connection
        connection.execute("begin")
        self._before = self._scans()

    def scans(self) -> int:
        """How often the transaction has read the whole table of jobs."""
        return self._scans() - self._before

    def begin_anew(self) -> None:
        self._connection.execute("rollback")
        self._connection.execute("begin")
        self._before = self._scans()

    def read_everything(self) -> None:
        self._connection.execute("set local enable_seqscan to on")
        self._connection.execute("select count(*) from pgq_job where payload is null", prepare=False)

    def _scans(self) -> int:
        counters = "select coalesce(sum(seq_scan), 0) from pg_stat_xact_user_tables where relname = 'pgq_job'"
        return int(self._connection.execute(counters.encode(), prepare=False).fetchall()[0][0])


@pytest.fixture(params=["force_generic_plan", "force_custom_plan", "auto"])
def observed(request: pytest.FixtureRequest, dsn: str) -> Iterator[Observed]:
    # Nobody else may find out how large the table is.
    query(dsn, "alter table pgq_job set (autovacuum_enabled = off)")
    names, who = Names(), worker(*ENTRYPOINTS)
    with closing(connect(dsn, "test")) as connection:
        connection.execute(f"set plan_cache_mode to {request.param}".encode())
        connection.prepare_threshold = 0
        limits = LocalLimits({})
        with PostgresClaimer(connection, names, who, database_clock, POLL_INTERVAL, limits, lambda: None) as claimer:
            yield Observed(Hand(PostgresStore(OneConnection(connection), names), who, claimer, limits), connection)
            connection.execute("rollback")


def _fill(dsn: str) -> None:
    """A bulk load, after which nobody analyzes the table."""
    query(
        dsn,
        f"""
        insert into pgq_job (entrypoint, priority, payload, execute_after)
        select 'e' || n % 10, n % 3, '\\x00', now() + case n % 4 when 0 then interval '1 day' else interval '0' end
        from generate_series(1, {ROWS}) as n
        """,
    )


def _work(one: Hand, room: int = 300) -> list[Claim]:
    """Everything that a worker does with jobs, once."""
    claims = one.claim(room)
    third = len(claims) // 3
    one.settle(claims[:third])
    one.settle(claims[third : 2 * third], "retried", error='{"a": 1}')
    one.settle(claims[2 * third :], "released")
    return claims


STATES: dict[str, Callable[[str], object]] = {
    "an empty table": lambda dsn: None,
    "a few jobs": lambda dsn: [query(dsn, f"select pgq_enqueue('{name}')") for name in ENTRYPOINTS],
    "a bulk load": _fill,
}


def test_a_scan_would_be_counted(observed: Observed) -> None:
    observed.read_everything()
    assert observed.scans() == 1

    observed.begin_anew()
    assert observed.scans() == 0


@pytest.mark.parametrize("state", STATES)
def test_a_workers_statements_use_an_index(dsn: str, observed: Observed, state: str) -> None:
    STATES[state](dsn)

    for _ in range(8):
        _work(observed.hand)

    assert observed.scans() == 0


def test_plans_made_while_the_table_was_empty_use_an_index_after_a_bulk_load(dsn: str, observed: Observed) -> None:
    # As many times as PostgreSQL wants to see before it keeps a plan.
    for _ in range(8):
        query(dsn, "select pgq_enqueue('e1') from generate_series(1, 12)")
        assert len(_work(observed.hand)) >= 12
    observed.begin_anew()

    _fill(dsn)
    for _ in range(8):
        assert len(_work(observed.hand)) == 300

    assert observed.scans() == 0


def test_single_outcomes_use_an_index(dsn: str, observed: Observed) -> None:
    _fill(dsn)

    for status in ("succeeded", "failed", "retried", "held", "released"):
        observed.hand.settle(observed.hand.claim_one(), status)

    assert observed.scans() == 0


def test_lost_outcomes_are_looked_for_by_an_index(dsn: str, observed: Observed) -> None:
    _fill(dsn)

    claims = observed.hand.claim(300)
    assert len(observed.hand.settle(claims).written) == 300
    assert len(observed.hand.settle(claims).written) == 300
    assert len(observed.hand.settle(claims, "retried").blocked) == 0

    assert observed.scans() == 0
