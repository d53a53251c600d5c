"""Statements that the server has carried out, but whose answer never came: nothing is done twice, and nothing is forgotten."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from pgq_sync import Hold, Job, PgQueuer, Retry, Settings
from tests.network.proxy import Proxy
from tests.storage.support import query
from tests.waiting import PATIENCE, wait_until

FINISH = b"kept as"
PUT_BACK = b"delay is null then job.execute_after"
CLAIM = b"set status = 'running'"


def _retry(job: Job) -> None:
    if job.attempt == 1:
        raise Retry(timedelta(hours=1))


def _hold(job: Job) -> None:
    raise Hold("ask me")


def _succeed(job: Job) -> None:
    """A job without an effect."""


@pytest.mark.parametrize(
    ("handler", "keep", "marker", "outcome"),
    [
        (_succeed, True, FINISH, "succeeded"),
        (_succeed, False, FINISH, "succeeded"),
        (_retry, True, PUT_BACK, "retried"),
        (_hold, True, PUT_BACK, "held"),
    ],
    ids=["a success", "a success that is not kept", "a retry", "a hold"],
)
def test_an_outcome_whose_answer_was_lost_is_known_to_be_written(
    proxy: Proxy, dsn: str, handler: Any, keep: bool, marker: bytes, outcome: str
) -> None:
    with PgQueuer.from_dsn(proxy.dsn, settings=Settings()) as pgq:
        pgq.entrypoint("work", keep_history=keep)(handler)
        with pgq.worker() as worker:
            assert worker.listening.wait(PATIENCE)
            answered = proxy.cut_after(marker)
            query(dsn, "insert into pgq_job (entrypoint) values ('work')")
            assert answered.wait(PATIENCE)
            wait_until(lambda: worker._completer.idle)
            report = worker.stop()
    assert report.counts == {outcome: 1}
    left = {"retried": [("queued", 1)], "held": [("held", 1)]}.get(outcome, [])
    assert query(dsn, "select status, attempt from pgq_job") == left
    finished = [("succeeded", 1)] if outcome == "succeeded" and keep else []
    assert query(dsn, "select status, attempts from pgq_history") == finished


def test_what_was_claimed_without_an_answer_is_put_back_and_runs(proxy: Proxy, dsn: str) -> None:
    with PgQueuer.from_dsn(proxy.dsn, settings=Settings()) as pgq:
        pgq.entrypoint("work")(_succeed)
        with pgq.worker(poll_interval=timedelta(hours=1)) as worker:
            assert worker.listening.wait(PATIENCE)
            answered = proxy.cut_after(CLAIM)
            query(dsn, "insert into pgq_job (entrypoint) select 'work' from generate_series(1, 5)")
            assert answered.wait(PATIENCE)
            # It was claimed, by a worker that lives and has never heard of it.
            wait_until(lambda: query(dsn, "select count(*) from pgq_history") == [(5,)])
            report = worker.stop()
    assert report.counts == {"succeeded": 5}
    # The claim that nobody heard of cost no attempt.
    assert query(dsn, "select distinct status, attempts, errors is null from pgq_history") == [("succeeded", 1, True)]


def test_what_was_claimed_without_an_answer_and_is_locked_is_put_back_although_every_slot_is_busy(proxy: Proxy, dsn: str) -> None:
    running, finish = threading.Event(), threading.Event()

    def long(job: Job) -> None:
        running.set()
        assert finish.wait(PATIENCE)

    with PgQueuer.from_dsn(proxy.dsn, settings=Settings()) as pgq, psycopg.connect(dsn) as somebody:
        pgq.entrypoint("work")(_succeed)
        pgq.entrypoint("long")(long)
        with pgq.worker(concurrency=1, poll_interval=timedelta(hours=1)) as worker:
            assert worker.listening.wait(PATIENCE)
            proxy.refuse()
            answered = proxy.cut_after(CLAIM)
            query(dsn, "insert into pgq_job (entrypoint) values ('work')")
            assert answered.wait(PATIENCE)
            somebody.execute("select from pgq_job for update")
            query(dsn, "insert into pgq_job (entrypoint) values ('long')")
            proxy.restore()
            assert running.wait(PATIENCE)
            somebody.rollback()
            wait_until(lambda: query(dsn, "select status from pgq_job where entrypoint = 'work'") == [("queued",)])
            finish.set()
            wait_until(lambda: query(dsn, "select count(*) from pgq_history") == [(2,)])
