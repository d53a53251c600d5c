"""Durations as callers give them: what is one, and that whatever is none is refused alike wherever one is taken."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from pgq_sync import CompletionWatcher, DatabaseRetry, PgQueuer
from pgq_sync.durations import in_seconds


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(0, 0.0), (2, 2.0), (0.25, 0.25), (timedelta(minutes=2), 120.0), (timedelta(), 0.0), (timedelta.max, 86399999999999.99)],
)
def test_a_duration_is_a_timedelta_or_a_number_of_seconds(value: Any, seconds: float) -> None:
    assert in_seconds("delay", value) == pytest.approx(seconds)
    assert isinstance(in_seconds("delay", value), float)


@pytest.mark.parametrize("endless", [math.inf, 10**400, 10**5000], ids=["inf", "400 digits", "5,000 digits"])
def test_without_a_longest_one_it_may_be_endless(endless: Any) -> None:
    assert in_seconds("timeout", endless, most=None) == math.inf


@pytest.mark.parametrize(
    ("options", "accepted"),
    [
        ({}, "from zero to 999,999,999 days is accepted"),
        ({"positive": True, "most": timedelta(days=7)}, "above zero, up to 7 days, is accepted"),
        ({"most": None}, "from zero up is accepted"),
        ({"positive": True, "most": None, "otherwise": ", or None for ever"}, "above zero is accepted, or None for ever"),
    ],
)
def test_the_error_names_argument_value_and_what_is_accepted(options: Any, accepted: str) -> None:
    for value, error in ((-1.5, ValueError), ("5", TypeError)):
        with pytest.raises(error) as refused:
            in_seconds("delay", value, **options)
        assert str(refused.value) == f"delay={value!r}: a timedelta or a number of seconds {accepted}"


def test_the_longest_and_the_shortest_are_accepted() -> None:
    week = timedelta(days=7)
    assert in_seconds("delay", week, most=week) == week.total_seconds()
    for value in (week + timedelta(microseconds=1), 7 * 86_400 + 1):
        with pytest.raises(ValueError, match=r"^delay="):
            in_seconds("delay", value, most=week)
    for value in (0, timedelta()):
        with pytest.raises(ValueError, match=r"^delay=0"):
            in_seconds("delay", value, positive=True)


TAKERS: dict[str, Callable[[PgQueuer, Any], Any]] = {
    "a timeout of an entrypoint": lambda pgq, value: pgq.entrypoint("work", timeout=value),
    "a schedule's jitter": lambda pgq, value: pgq.schedule("tick", "@daily", jitter=value),
    "a delay of a policy": lambda pgq, value: DatabaseRetry(initial_delay=value),
    "a refresh interval": lambda pgq, value: CompletionWatcher(pgq, value),
    "a timeout of waiting": lambda pgq, value: pgq.wait(1, value),
    "a timeout of stopping": lambda pgq, value: pgq.worker().stop(value),
}
REFUSED = [True, "5", [1], Decimal(1), -1, -math.inf, math.nan, -(10**400), -(10**5000), timedelta(-1)]


@pytest.mark.parametrize("value", REFUSED, ids=[f"{type(value).__name__} {n}" for n, value in enumerate(REFUSED)])
@pytest.mark.parametrize("take", TAKERS.values(), ids=TAKERS.keys())
def test_wherever_one_is_taken_what_is_none_is_refused(take: Callable[[PgQueuer, Any], Any], value: Any) -> None:
    pgq = PgQueuer.in_memory()
    pgq.entrypoint("other")(lambda job: None)
    with pytest.raises((TypeError, ValueError), match=r"^\w+=.*: a timedelta or a number of seconds .* is accepted"):
        take(pgq, value)


@pytest.mark.parametrize("value", [math.inf, 10**400])
@pytest.mark.parametrize("take", list(TAKERS.values())[:3], ids=list(TAKERS)[:3])
def test_what_no_date_could_hold_is_refused(take: Callable[[PgQueuer, Any], Any], value: Any) -> None:
    with pytest.raises(ValueError, match=r"^\w+=(inf|\(a number of more than 300 digits\)): a timedelta or"):
        take(PgQueuer.in_memory(), value)
