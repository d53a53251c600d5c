"""Jobs that become due again are announced to the listening workers as new ones are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from pgq_sync import NewJob, PgQueuer
from tests.storage.support import Ear, ear, hand


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
        ({"status": "retried", "delay": timedelta(hours=1)}, False),
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
