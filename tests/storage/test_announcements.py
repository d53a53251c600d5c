"""Jobs that become due again are announced to the listening workers as new ones are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import psycopg
import pytest

from pgq_sync import NewJob, PgQueuer
from pgq_sync.storage.notifications import parse
from tests.storage.support import Ear, ear, hand, query


@pytest.fixture
def listener(dsn: str) -> Iterator[Ear]:
    with ear(dsn) as listening:
        yield listening


def _announced(listener: Ear) -> list[tuple[int, set[str]]]:
    """For each notification: how many jobs, and of which entrypoints."""
    messages = [json.loads(message) for message in listener.heard()]
    return [(count, {lane[1] for lane in lanes}) for _, count, lanes in messages]


@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        ({"status": "released"}, True),
        ({"status": "retried"}, True),
        ({"status": "retried", "delay": timedelta(seconds=2)}, True),
        ({"status": "retried", "delay": timedelta(seconds=50)}, True),
        ({"status": "retried", "delay": timedelta(seconds=70)}, False),
        ({"status": "held"}, False),
        ({"status": "succeeded"}, False),
        ({"status": "failed"}, False),
    ],
    ids=lambda value: " ".join(map(str, value.values())) if isinstance(value, dict) else None,
)
def test_what_an_attempt_puts_back_is_announced_when_it_is_due_soon(
    pgq: PgQueuer, listener: Ear, outcome: dict[str, Any], told: bool
) -> None:
    pgq.enqueue_many((NewJob(entrypoint=name) for name in "aab"), notify=False)

    with hand(pgq.store, "a", "b") as one:
        one.settle(one.claim(), **outcome)

    if told:
        assert [names for _, names in _announced(listener)] == [{"a", "b"}]
    else:
        assert _announced(listener) == []


@pytest.mark.parametrize("status", ["held", "failed"])
def test_what_an_operator_puts_back_is_announced(pgq: PgQueuer, listener: Ear, status: str) -> None:
    ids = pgq.enqueue_many((NewJob(entrypoint="work") for _ in range(3)), notify=False)
    with hand(pgq.store, "work") as one:
        one.settle(one.claim(), status)
    assert _announced(listener) == []

    pgq.jobs.requeue(ids)

    assert [names for _, names in _announced(listener)] == [{"work"}]


def test_nothing_is_announced_where_nothing_was_put_back(pgq: PgQueuer, listener: Ear) -> None:
    job_id = pgq.enqueue("work", notify=False)

    pgq.jobs.requeue([job_id, 10**9])

    assert _announced(listener) == []


def test_a_claim_announces_nothing(pgq: PgQueuer, listener: Ear) -> None:
    pgq.enqueue("work", notify=False)

    with hand(pgq.store, "work") as one:
        assert one.claim()

    assert _announced(listener) == []


def test_names_too_long_for_a_notification_are_left_out_of_it(pgq: PgQueuer, dsn: str, listener: Ear) -> None:
    query(dsn, "insert into pgq_job (entrypoint) values (repeat('x', 8000)) returning id")

    assert [json.loads(message)[1:] for message in listener.heard()] == [[1]]


def test_the_earliest_time_that_the_table_takes_can_be_announced(pgq: PgQueuer, dsn: str, listener: Ear) -> None:
    query(dsn, "insert into pgq_job (entrypoint, execute_after) values ('work', '0001-01-02 00:00:00+00') returning id")

    [notice] = [parse(message) for message in listener.heard()]
    assert notice.lanes is not None
    assert [lane.earliest.year for lane in notice.lanes] == [1]


def test_silence_asked_for_where_no_trigger_fired_does_not_outlast_its_statement(pgq: PgQueuer, dsn: str, listener: Ear) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("set local session_replication_role = replica")
        pgq.on(connection).enqueue("quiet", notify=False)
        connection.execute("set local session_replication_role = origin")
        pgq.on(connection).enqueue("loud")

    assert _announced(listener) == [(1, {"loud"})]


@pytest.mark.parametrize("jobs", [1, 2], ids=["single", "batch"])
def test_what_plain_sql_inserts_is_announced_beside_what_was_enqueued_in_the_same_transaction(
    pgq: PgQueuer, dsn: str, listener: Ear, jobs: int
) -> None:
    with psycopg.connect(dsn) as connection:
        pgq.on(connection).enqueue_many(NewJob(entrypoint="ours") for _ in range(jobs))
        connection.execute("insert into pgq_job (entrypoint) values ('theirs')")
        pgq.on(connection).enqueue_many([NewJob(entrypoint="quiet")] * jobs, notify=False)
        connection.execute("insert into pgq_job (entrypoint) values ('theirs'), ('theirs')")

    assert _announced(listener) == [(jobs, {"ours"}), (1, {"theirs"}), (2, {"theirs"})]


@pytest.mark.parametrize("due", [timedelta(seconds=50), timedelta(seconds=70), None], ids=["soon", "late", "absolute"])
@pytest.mark.parametrize("jobs", [1, 3], ids=["single", "batch"])
def test_a_deferred_job_is_announced_with_its_time_when_that_is_within_a_minute(
    pgq: PgQueuer, listener: Ear, due: timedelta | None, jobs: int
) -> None:
    when = due or datetime.now(timezone.utc) + timedelta(seconds=30)
    pgq.enqueue_many(NewJob(entrypoint="work", execute_after=when) for _ in range(jobs))

    notices = [parse(message) for message in listener.heard()]
    if due == timedelta(seconds=70):
        assert notices == []
    else:
        ((lane,),) = [notice.lanes or [] for notice in notices]
        assert 20 < lane.delay <= 50
        record, *_ = pgq.jobs.find(entrypoint="work")
        assert abs(lane.earliest - record.execute_after) < timedelta(milliseconds=1)


@pytest.mark.parametrize("deferred", [False, True])
def test_a_job_that_takes_the_place_of_one_that_waits_is_announced_from_that_ones_place_on(
    pgq: PgQueuer, dsn: str, listener: Ear, deferred: bool
) -> None:
    due = "select extract(epoch from execute_after)::float8 from pgq_job"
    pgq.enqueue("work", dedupe_key="one", notify=False)
    ((before,),) = query(dsn, due)
    after_all = timedelta(seconds=30) if deferred else None
    pgq.enqueue("work", dedupe_key="one", on_conflict="replace", execute_after=after_all)
    ((after,),) = query(dsn, due)

    (message,) = listener.heard()
    ((*_, earliest),) = json.loads(message)[2]
    assert earliest == pytest.approx(after if deferred else before, abs=1e-5)
    assert before < after


def test_a_lane_of_a_batch_is_announced_by_its_first_job(pgq: PgQueuer, listener: Ear) -> None:
    late = [NewJob(entrypoint=f"late {n}", execute_after=timedelta(days=1)) for n in range(400)]
    mixed = [NewJob(entrypoint="mixed", execute_after=timedelta(seconds=seconds)) for seconds in (3_600, 0, 30)]
    absolute = [NewJob(entrypoint="mixed", execute_after=datetime.now(timezone.utc) + timedelta(days=day)) for day in (2, 1)]
    pgq.enqueue_many([*late, *mixed, *absolute])

    ((lane,),) = [parse(message).lanes or [] for message in listener.heard()]
    assert (lane.entrypoint, lane.delay) == ("mixed", 0)


def test_what_a_trigger_of_somebody_elses_enqueues_in_the_course_of_an_enqueue_is_announced_too(
    pgq: PgQueuer, dsn: str, listener: Ear
) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("""
            create function follow() returns trigger language plpgsql as $$
            begin
                if new.entrypoint = 'first' then perform pgq_enqueue('second'); end if;
                return null;
            end $$
        """)
        connection.execute("create trigger follow after insert on pgq_job for each row execute function follow()")

    pgq.enqueue("first")
    assert sorted(_announced(listener), key=str) == [(1, {"first"}), (1, {"second"})]
    pgq.enqueue_many([NewJob(entrypoint="first"), NewJob(entrypoint="other")])
    assert {name for _, names in _announced(listener) for name in names} == {"first", "other", "second"}


def test_no_announced_delay_is_shorter_than_the_job_has_to_wait(pgq: PgQueuer, dsn: str, listener: Ear) -> None:
    jobs = [NewJob(entrypoint="work", execute_after=timedelta(seconds=30.0004))]
    pgq.enqueue(jobs[0].entrypoint, execute_after=jobs[0].execute_after)
    pgq.enqueue_many(jobs * 2)
    query(dsn, "insert into pgq_job (entrypoint, execute_after) values ('work', statement_timestamp() + '30.0004 s')")

    lanes = [lane for message in listener.heard() for lane in parse(message).lanes or []]
    assert [lane.delay for lane in lanes] == [30.001] * 3
