"""Enqueuing from plain SQL, and the notifications that every way of enqueuing sends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from pgq_sync import DuplicateJob, NewJob, PgQueuer, Settings
from pgq_sync.storage.names import Names
from tests.storage.support import Ear, ear, hand, query

MODES = ("raise", "skip", "existing", "replace")


@pytest.fixture
def listener(dsn: str) -> Iterator[Ear]:
    with ear(dsn) as listening:
        yield listening


def test_a_name_is_enough(pgq: PgQueuer, dsn: str) -> None:
    ((job_id,),) = query(dsn, "select pgq_enqueue('work')")

    record = pgq.jobs.get(job_id)
    assert record is not None
    assert (record.entrypoint, record.queue, record.priority, record.status) == ("work", "default", 0, "queued")
    assert (record.payload, record.headers, record.dedupe_key, record.attempts) == (None, None, None, 0)
    assert record.execute_after == record.created_at
    with hand(pgq.store, "work") as one:
        assert one.claim_one().job.id == job_id


@pytest.mark.parametrize(
    "arguments",
    [
        "'work', '\\x00ff', 7, '2031-01-02 03:04:05+00', 'k', 'started', '{\"a\": [1]}', 'mail', 'skip', false",
        "notify => false, on_conflict => 'skip', queue => 'mail', headers => '{\"a\": [1]}', dedupe_until => 'started', "
        "dedupe_key => 'k', execute_after => '2031-01-02 03:04:05+00', priority => 7, payload => '\\x00ff', entrypoint => 'work'",
    ],
    ids=["by position", "by name"],
)
def test_every_option_is_taken(pgq: PgQueuer, dsn: str, arguments: str) -> None:
    ((job_id,),) = query(dsn, f"select pgq_enqueue({arguments})")

    record = pgq.jobs.get(job_id)
    assert record is not None
    assert (record.entrypoint, record.payload, record.priority, record.queue) == ("work", b"\x00\xff", 7, "mail")
    assert (record.execute_after.isoformat(), record.dedupe_key) == ("2031-01-02T03:04:05+00:00", "k")
    assert record.headers == {"a": [1]}
    assert query(dsn, "select dedupe_until from pgq_job") == [("started",)]
    assert query(dsn, f"select pgq_enqueue({arguments})") == [(None,)]


@pytest.mark.parametrize("key", ["", ", dedupe_key => 'k'"], ids=["without a key", "with a key"])
def test_a_time_in_the_past_means_now(pgq: PgQueuer, dsn: str, key: str) -> None:
    ((job_id,),) = query(dsn, f"select pgq_enqueue('work', execute_after => '-infinity'{key})")

    record = pgq.jobs.get(job_id)
    assert record is not None
    assert record.execute_after == record.created_at


@pytest.mark.parametrize("mode", ["skip", "existing", "replace"])
def test_a_conflict_is_dealt_with_as_asked(pgq: PgQueuer, dsn: str, mode: str) -> None:
    there = pgq.enqueue("work", "old", dedupe_key="k")

    ((got,),) = query(dsn, f"select pgq_enqueue('work', 'new', dedupe_key => 'k', on_conflict => '{mode}')")

    assert got == (None if mode == "skip" else there)
    assert query(dsn, "select payload from pgq_job") == [(b"new" if mode == "replace" else b"old",)]


def test_replace_leaves_a_running_job_alone(pgq: PgQueuer, dsn: str) -> None:
    pgq.enqueue("work", "old", dedupe_key="k")

    with hand(pgq.store, "work") as one:
        one.claim_one()
        assert query(dsn, "select pgq_enqueue('work', 'new', dedupe_key => 'k', on_conflict => 'replace')") == [(None,)]


def test_raise_is_a_unique_violation_that_names_key_and_job(pgq: PgQueuer, dsn: str) -> None:
    there = pgq.enqueue("work", dedupe_key="the key")

    with pytest.raises(psycopg.errors.UniqueViolation, match=f"the key.*{there}") as caught:
        query(dsn, "select pgq_enqueue('work', dedupe_key => 'the key')")

    assert "on_conflict" in str(caught.value.diag.message_hint)
    assert pgq.jobs.count() == {("work", "queued"): 1}


def test_raise_can_be_caught_within_a_transaction(dsn: str) -> None:
    query(dsn, "select pgq_enqueue('work', dedupe_key => 'k')")

    query(
        dsn,
        """
        do $$ begin
            perform pgq_enqueue('first');
            begin
                perform pgq_enqueue('work', dedupe_key => 'k');
            exception when unique_violation then
                perform pgq_enqueue('instead');
            end;
        end $$
        """,
    )

    assert query(dsn, "select entrypoint from pgq_job order by id") == [("work",), ("first",), ("instead",)]


@pytest.mark.parametrize("mode", ["'ignore'", "''", "null"])
@pytest.mark.parametrize("key", ["", ", dedupe_key => 'k'"], ids=["without a key", "with a key"])
def test_an_unknown_mode_is_refused(dsn: str, mode: str, key: str) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="raise, skip, existing or replace"):
        query(dsn, f"select pgq_enqueue('work', on_conflict => {mode}{key})")


def test_it_enqueues_from_a_trigger_of_the_application(pgq: PgQueuer, dsn: str) -> None:
    query(dsn, "create table orders (id int)")
    query(
        dsn,
        """
        create function order_placed() returns trigger language plpgsql as $$
        begin
            perform pgq_enqueue('ship', new.id::text::bytea, dedupe_key => 'order ' || new.id);
            return new;
        end $$
        """,
    )
    query(dsn, "create trigger order_placed after insert on orders for each row execute function order_placed()")

    query(dsn, "insert into orders values (1), (2)")

    assert sorted(record.payload or b"" for record in pgq.jobs.find()) == [b"1", b"2"]


def _lanes(message: str) -> list[tuple[str, str, int]]:
    return sorted((lane[0], lane[1], lane[2]) for lane in json.loads(message)[2])


@pytest.mark.parametrize("key", ["", ", dedupe_key => 'k'"], ids=["without a key", "with a key"])
def test_the_function_notifies_unless_told_not_to(listener: Ear, dsn: str, key: str) -> None:
    query(dsn, f"select pgq_enqueue('loud', queue => 'mail', priority => 3{key})")
    (message,) = listener.heard()
    assert _lanes(message) == [("mail", "loud", 3)]

    query(dsn, "delete from pgq_job")
    query(dsn, f"select pgq_enqueue('silent', notify => false{key})")
    assert listener.heard() == []


def test_a_notification_reaches_whoever_listens(dsn: str) -> None:
    with closing(psycopg.connect(dsn, autocommit=True)) as connection:
        connection.execute(f'listen "{Names().channel}"'.encode())
        query(dsn, "select pgq_enqueue('work')")
        (notification,) = connection.notifies(timeout=30, stop_after=1)

    assert _lanes(notification.payload) == [("default", "work", 0)]


def test_one_statement_sends_one_notification(listener: Ear, pgq: PgQueuer) -> None:
    pgq.enqueue_many(NewJob(entrypoint=name, priority=priority) for name in "ab" for priority in (0, 1) for _ in range(50))

    (message,) = listener.heard()
    _, count, lanes = json.loads(message)
    assert (count, len(lanes)) == (200, 4)
    pgq.enqueue_many(NewJob(entrypoint="work", dedupe_key=str(key)) for key in range(50))
    assert len(listener.heard()) == 1


def test_a_job_due_later_is_not_announced(listener: Ear, pgq: PgQueuer, dsn: str) -> None:
    pgq.enqueue("work", execute_after=timedelta(hours=1))
    pgq.enqueue_many(NewJob(entrypoint="work", execute_after=timedelta(hours=1)) for _ in range(3))
    query(dsn, "select pgq_enqueue('work', execute_after => now() + interval '1 hour')")
    assert listener.heard() == []

    pgq.enqueue_many([NewJob(entrypoint="later", execute_after=timedelta(hours=1)), NewJob(entrypoint="now")])
    (message,) = listener.heard()
    assert _lanes(message) == [("default", "now", 0)]


def test_a_job_due_within_a_poll_is_announced_with_its_delay(listener: Ear, pgq: PgQueuer) -> None:
    pgq.enqueue("work", execute_after=timedelta(seconds=3))

    (message,) = listener.heard()
    ((_, _, _, delay, earliest),) = json.loads(message)[2]
    (record,) = pgq.jobs.find()
    assert 2.9 <= delay <= 3
    assert earliest == pytest.approx(record.execute_after.timestamp(), abs=1e-5)


def test_a_plain_insert_notifies(listener: Ear, dsn: str) -> None:
    query(dsn, "insert into pgq_job (entrypoint, priority) values ('a', 1), ('b', 2), ('a', 1)")
    (message,) = listener.heard()
    assert _lanes(message) == [("default", "a", 1), ("default", "b", 2)]

    query(dsn, "insert into pgq_job (entrypoint, status) values ('a', 'held')")
    assert listener.heard() == []


def test_lanes_that_do_not_fit_into_a_message_are_left_out(listener: Ear, pgq: PgQueuer) -> None:
    pgq.enqueue_many(NewJob(entrypoint=f"{number:03}{'ä' * 197}") for number in range(300))
    (message,) = listener.heard()
    assert json.loads(message)[1:] == [300]

    pgq.enqueue_many(NewJob(entrypoint=f"{number:03}{'ä' * 197}", dedupe_key=str(number)) for number in range(300))
    pgq.enqueue_many(
        [NewJob(entrypoint=f"{number:03}{'ö' * 197}", dedupe_key=str(number)) for number in range(300)], on_conflict="replace"
    )
    assert [json.loads(message)[1:] for message in listener.heard()] == [[300], [300]]
    assert pgq.jobs.count()[f"000{'ö' * 197}", "queued"] == 1


def test_names_that_json_must_escape_arrive(listener: Ear, pgq: PgQueuer) -> None:
    name = '"\\\n\t\u2028ä😀'
    pgq.enqueue(name, queue=name)

    assert _lanes(listener.heard()[0]) == [(name, name, 0)]


@pytest.mark.parametrize("mode", MODES)
def test_python_can_enqueue_without_a_notification(listener: Ear, pgq: PgQueuer, mode: Any) -> None:
    pgq.enqueue("work", notify=False, on_conflict=mode)
    pgq.enqueue("work", dedupe_key="k", notify=False, on_conflict=mode)
    pgq.enqueue_many([NewJob(entrypoint="work") for _ in range(3)], notify=False, on_conflict=mode)
    pgq.enqueue_many([NewJob(entrypoint="work", dedupe_key=key) for key in "abc"], notify=False, on_conflict=mode)

    assert listener.heard() == []


def test_replacing_notifies_unless_told_not_to(listener: Ear, pgq: PgQueuer) -> None:
    pgq.enqueue("work", dedupe_key="k", notify=False)

    pgq.enqueue("other", dedupe_key="k", on_conflict="replace")
    (message,) = listener.heard()
    assert _lanes(message) == [("default", "other", 0)]

    pgq.enqueue("third", dedupe_key="k", on_conflict="replace", notify=False)
    assert listener.heard() == []


def test_an_installation_can_do_without_notifications(listener: Ear, dsn: str) -> None:
    with PgQueuer.from_dsn(dsn, settings=Settings(notify=False)) as pgq:
        pgq.enqueue("work", notify=True)
        pgq.enqueue_many([NewJob(entrypoint="work")])

    assert listener.heard() == []


def _silently(pgq: PgQueuer, connection: psycopg.Connection[Any], how: str) -> None:
    """Enqueues, or tries to, without a notification."""
    producer = pgq.on(connection)
    match how:
        case "one":
            producer.enqueue("silent", notify=False)
        case "batch":
            producer.enqueue_many([NewJob(entrypoint="silent") for _ in range(2)], notify=False)
        case "keyed":
            producer.enqueue("silent", dedupe_key="new", notify=False)
        case "function":
            connection.execute("select pgq_enqueue('silent', notify => false)")
        case "skipped":
            producer.enqueue("silent", dedupe_key="taken", on_conflict="skip", notify=False)
        case "conflict":
            with pytest.raises(DuplicateJob):
                producer.enqueue("silent", dedupe_key="taken", notify=False)
        case "conflict in the batch":
            with pytest.raises(DuplicateJob):
                producer.enqueue_many([NewJob(entrypoint="silent", dedupe_key="twice") for _ in range(2)], notify=False)


HOWS = ("one", "batch", "keyed", "function", "skipped", "conflict", "conflict in the batch")


@pytest.mark.parametrize("following", ["python", "function", "insert"])
@pytest.mark.parametrize("how", HOWS)
def test_silence_ends_with_its_statement(listener: Ear, pgq: PgQueuer, dsn: str, how: str, following: str) -> None:
    pgq.enqueue("there", dedupe_key="taken", notify=False)

    with closing(psycopg.connect(dsn)) as connection:
        _silently(pgq, connection, how)
        if following == "python":
            pgq.on(connection).enqueue("loud")
        elif following == "function":
            connection.execute("select pgq_enqueue('loud')")
        else:
            connection.execute("insert into pgq_job (entrypoint) values ('loud')")
        connection.commit()

    assert [_lanes(message) for message in listener.heard()] == [[("default", "loud", 0)]]
