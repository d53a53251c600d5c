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
LIMIT = """
    insert into pgq_limit (entrypoint, concurrency_limit, requests_per_second, burst, tokens, refilled_at, declared_at)
    values (%s, 20, 1e6, 1e6, 1e6, now(), now())
"""
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

    def joined(self) -> None:
        """Nothing is left open on it."""

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
        self.connection = connection
        connection.execute("begin")
        self._before = self._scans("seq_scan")

    def scans(self) -> int:
        """How often the transaction has read the whole table of jobs."""
        return self._scans("seq_scan") - self._before

    def looks(self) -> int:
        """How often the transaction has looked into any index of the table of jobs."""
        return self._scans("idx_scan")

    def begin_anew(self) -> None:
        self.connection.execute("rollback")
        self.connection.execute("begin")
        self._before = self._scans("seq_scan")

    def read_everything(self) -> None:
        self.connection.execute("set local enable_seqscan to on")
        self.connection.execute("select count(*) from pgq_job where payload is null", prepare=False)

    def _scans(self, kind: str) -> int:
        counters = f"select coalesce(sum({kind}), 0) from pg_stat_xact_user_tables where relname = 'pgq_job'"
        return int(self.connection.execute(counters.encode(), prepare=False).fetchall()[0][0])


@pytest.fixture(params=["force_generic_plan", "force_custom_plan", "auto"])
def observed(request: pytest.FixtureRequest, dsn: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Observed]:
    # Limited claims too take part in the transaction that is observed.
    monkeypatch.setattr("pgq_sync.storage.careful._BEGIN", b"select 1")
    monkeypatch.setattr("pgq_sync.storage.careful._COMMIT", b"select 1")
    # Nobody else may find out how large the table is.
    query(dsn, "alter table pgq_job set (autovacuum_enabled = off)")
    names, who = Names(), worker(*ENTRYPOINTS)
    with closing(connect(dsn, "test")) as connection:
        connection.prepare_threshold = 0
        limits = LocalLimits({})
        with PostgresClaimer(connection, names, who, database_clock, POLL_INTERVAL, limits, {}) as claimer:
            connection.execute(f"set plan_cache_mode to {request.param}".encode())
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


def _churn(dsn: str) -> None:
    """Jobs that have come, run and gone, and whose entries are in every index since no vacuum has been there."""
    query(dsn, f"insert into pgq_job (entrypoint) select 'e' || n % 10 from generate_series(1, {ROWS}) as n")
    query(dsn, "update pgq_job set status = 'running', worker_id = gen_random_uuid(), fence = 1")
    query(dsn, "delete from pgq_job")
    query(dsn, "insert into pgq_job (entrypoint, priority) select 'e' || n % 10, n % 3 from generate_series(1, 1000) as n")


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
    "many jobs that are gone": _churn,
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


@pytest.mark.parametrize("state", STATES)
def test_limited_claims_use_an_index(dsn: str, observed: Observed, state: str) -> None:
    STATES[state](dsn)
    for name in ENTRYPOINTS[:5]:
        query(dsn, LIMIT, [name])
    query(dsn, "update pgq_job set rescues = 2 where id in (select min(id) from pgq_job group by entrypoint)")

    claims = [claim for _ in range(8) for claim in _work(observed.hand)]
    if state != "an empty table":
        assert not {claim.job.entrypoint for claim in claims}.isdisjoint(ENTRYPOINTS[:5])
        assert 2 in {claim.rescues for claim in claims}

    assert observed.scans() == 0


@pytest.mark.parametrize("state", STATES)
def test_rescues_and_recoveries_use_an_index(dsn: str, observed: Observed, state: str) -> None:
    STATES[state](dsn)
    store, me = observed.hand.store, observed.hand.worker
    store.register(me)
    for _ in range(3):
        victim = worker(*ENTRYPOINTS)
        store.register(victim)
        claims = observed.hand.claim(50)
        taken = {"victim": victim.worker_id, "ids": [claim.job.id for claim in claims]}
        with OneConnection(observed.connection).session() as session:
            session.run("update pgq_job set worker_id = %(victim)s where id = any(%(ids)s)", taken)
            session.run("update pgq_worker set beat_at = '2020-01-01' where worker_id = %(victim)s", taken)
        held = observed.hand.claim(50)
        assert not observed.hand.claimer.recover(held[::2]).lost
        assert sum(dead.jobs for dead in store.rescue(me)) == len(claims)
        store.rescue(me, thorough=True)

    assert observed.scans() == 0


def test_a_rescue_looks_at_no_job_while_everybody_lives(dsn: str, observed: Observed) -> None:
    _fill(dsn)
    store, me = observed.hand.store, observed.hand.worker
    observed.hand.claim()
    for each in (me, worker("e1"), worker("e2")):
        store.register(each)
    before = observed.looks()
    for _ in range(8):
        store.beat(me)
        assert store.rescue(me) == []
    assert observed.looks() == before
