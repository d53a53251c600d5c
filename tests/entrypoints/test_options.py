"""The options of an entrypoint beyond how it is called: limits, timeouts, transactions. What cannot be meant is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from pgq_sync import PgQueuer
from pgq_sync.models import Limit


@pytest.fixture
def memory() -> PgQueuer:
    return PgQueuer.in_memory()


def nothing(job: Any) -> None:
    pass


Declare = Callable[..., Any]


@pytest.fixture(params=["entrypoint", "schedule"])
def declare(request: pytest.FixtureRequest, memory: PgQueuer) -> Declare:
    """Declares with options, which a schedule passes on."""
    if request.param == "entrypoint":
        return lambda **options: memory.entrypoint("work", **options)
    return lambda **options: memory.schedule("work", "@daily", **options)


@pytest.mark.parametrize(
    ("options", "limit"),
    [
        ({}, None),
        ({"limit_scope": "worker"}, None),
        ({"requests_per_second": math.inf}, None),
        ({"concurrency_limit": 3}, Limit(concurrency_limit=3)),
        ({"concurrency_limit": 3, "limit_scope": "worker"}, Limit(concurrency_limit=3, scope="worker")),
        ({"requests_per_second": 0.5}, Limit(requests_per_second=0.5, burst=1.0)),
        ({"requests_per_second": 20}, Limit(requests_per_second=20.0, burst=20.0)),
        ({"requests_per_second": 2.5, "burst": 1}, Limit(requests_per_second=2.5, burst=1.0)),
        (
            {"concurrency_limit": 2**31 - 1, "requests_per_second": 1e9, "burst": 7.5},
            Limit(concurrency_limit=2**31 - 1, requests_per_second=1e9, burst=7.5),
        ),
    ],
)
def test_limits_are_declared(memory: PgQueuer, declare: Declare, options: dict[str, Any], limit: Limit | None) -> None:
    declare(**options)(nothing)
    assert memory.registry.get("work").parameters.limit == limit
    assert memory.registry.limited() == ({} if limit is None else {"work": limit})


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        *[("concurrency_limit", value, TypeError) for value in (True, 2.0, "2", None)],
        *[("concurrency_limit", value, ValueError) for value in (-1, 2**31)],
        *[("requests_per_second", value, TypeError) for value in (True, "2", None, timedelta(seconds=1))],
        *[("requests_per_second", value, ValueError) for value in (0, -1, math.nan, -math.inf)],
        *[("burst", value, TypeError) for value in (True, "2")],
        *[("burst", value, ValueError) for value in (0, 0.9, -1, math.nan, math.inf)],
        *[("limit_scope", value, ValueError) for value in ("process", None, True)],
        *[("timeout", value, TypeError) for value in (True, "5s")],
        *[("timeout", value, ValueError) for value in (0, -1, math.nan, math.inf, timedelta(), timedelta(-1), timedelta.max)],
        *[("transactional", value, ValueError) for value in (None, 1, "yes")],
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_by_its_name(declare: Declare, option: str, value: Any, error: type) -> None:
    rate = {"requests_per_second": 5.0} if option == "burst" else {}
    with pytest.raises(error) as refused:
        declare(**{option: value}, **rate)
    shown = str(value) if option == "timeout" and isinstance(value, timedelta) else repr(value)
    assert str(refused.value).startswith(f"{option}={shown}")


def test_a_number_beyond_every_float_is_refused(declare: Declare) -> None:
    with pytest.raises(ValueError, match="requests_per_second has more than 300 digits"):
        declare(requests_per_second=10**400)


def test_a_burst_needs_the_rate_that_it_is_a_burst_of(declare: Declare) -> None:
    with pytest.raises(ValueError, match="burst=5 without requests_per_second"):
        declare(burst=5)


@pytest.mark.parametrize(("timeout", "seconds"), [(None, None), (2, 2.0), (0.25, 0.25), (timedelta(minutes=2), 120.0)])
def test_timeouts_are_declared_in_seconds_or_as_a_timedelta(
    memory: PgQueuer, declare: Declare, timeout: Any, seconds: float | None
) -> None:
    declare(timeout=timeout)(nothing)
    assert memory.registry.get("work").parameters.timeout == seconds


def test_the_longest_timeout_has_a_deadline(memory: PgQueuer) -> None:
    deadlines = []
    memory.entrypoint("work", timeout=timedelta(days=365_000), accepts_context=True)(
        lambda job, context: deadlines.append(context.deadline.year)
    )
    memory.enqueue("work")
    assert memory.drain().counts == {"succeeded": 1}
    assert 3000 < deadlines[0] < 3100
