"""assert_enqueued and its like: what they find, and what they tell where they do not."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any
from unittest.mock import ANY

import pytest

from pgq_sync import Hold, PgQueuer, testing

START = datetime(2031, 5, 17, 12, tzinfo=timezone.utc)
WANTED: list[dict[str, Any]] = [
    {},
    {"payload": "päy"},
    {"payload": "päy".encode()},
    {"headers": {"a": [1]}},
    {"headers": {"a": ANY}},
    {"queue": "mail", "priority": 5, "dedupe_key": "key"},
    {"execute_after": timedelta(hours=1)},
    {"execute_after": START + timedelta(hours=1)},
    {"count": 1},
]
OTHER: list[dict[str, Any]] = [
    {"payload": "pay"},
    {"payload": None},
    {"headers": None},
    {"headers": {"a": [2]}},
    {"queue": "default"},
    {"priority": 0},
    {"dedupe_key": None},
    {"execute_after": timedelta(hours=2)},
    {"execute_after": START},
    {"queue": "mail", "priority": 4},
]


@pytest.fixture
def application(either: PgQueuer) -> PgQueuer:
    """With one job enqueued."""
    with testing.clock(either, START):
        options: dict[str, Any] = {"queue": "mail", "priority": 5, "dedupe_key": "key", "headers": {"a": [1]}}
        either.enqueue("fetch", "päy", execute_after=timedelta(hours=1), **options)
    return either


@pytest.mark.parametrize("wanted", WANTED, ids=map(str, WANTED))
def test_a_job_is_found_by_what_it_was_enqueued_with(application: PgQueuer, wanted: dict[str, Any]) -> None:
    (job,) = testing.enqueued(application)
    found = testing.assert_enqueued(application, "fetch", **wanted)
    assert found == ([job] if "count" in wanted else job)
    wanted.pop("count", None)
    with pytest.raises(AssertionError, match=r"^1 such job is enqueued:\nwanted:\n  fetch"):
        testing.assert_not_enqueued(application, "fetch", **wanted)


@pytest.mark.parametrize("other", OTHER, ids=map(str, OTHER))
def test_it_is_not_found_by_anything_else(application: PgQueuer, other: dict[str, Any]) -> None:
    with pytest.raises(AssertionError, match=r"^no such job is enqueued:\nwanted:\n  fetch, "):
        testing.assert_enqueued(application, "fetch", **other)
    testing.assert_not_enqueued(application, "fetch", **other)


def test_the_failure_shows_what_was_wanted_and_what_there_is_the_closest_first(either: PgQueuer) -> None:
    a = either.enqueue("mail", "x", priority=5)
    b = either.enqueue("fetch", "y")
    c = either.enqueue("fetch", "x", priority=1)
    with pytest.raises(AssertionError) as failure:
        testing.assert_enqueued(either, "fetch", payload="x", priority=5)
    assert str(failure.value).splitlines() == [
        "no such job is enqueued:",
        "wanted:",
        "  fetch, payload=b'x', priority=5",
        "unfinished are, the closest first:",
        f"  job {c}, queued: fetch, payload=b'x', priority=1 (other priority)",
        f"  job {b}, queued: fetch, payload=b'y', priority=0 (other payload, priority)",
        f"  job {a}, queued: mail, payload=b'x', priority=5 (other entrypoint)",
    ]


def test_times_are_shown_as_they_were_asked_for(application: PgQueuer) -> None:
    with pytest.raises(AssertionError, match=r"execute_after=2:00:00\n.*\n.*execute_after=1:00:00 \(other execute_after\)"):
        testing.assert_enqueued(application, "fetch", execute_after=timedelta(hours=2))
    with pytest.raises(AssertionError, match=r"2031-05-17T12:00:00.*\n.*\n.*=2031-05-17T13:00:00.00:00 \(other"):
        testing.assert_enqueued(application, "fetch", execute_after=START)


def test_where_there_is_nothing_it_says_so(either: PgQueuer) -> None:
    with pytest.raises(AssertionError) as failure:
        testing.assert_enqueued(either, "fetch")
    assert str(failure.value) == "no such job is enqueued:\nwanted:\n  fetch\nno job is unfinished"


def test_a_long_list_and_a_long_payload_are_cut(either: PgQueuer) -> None:
    for _ in range(12):
        either.enqueue("fetch", "x" * 10_000)
    with pytest.raises(AssertionError) as failure:
        testing.assert_enqueued(either, "fetch", payload="y")
    lines = str(failure.value).splitlines()
    assert (len(lines), lines[-1]) == (4 + 10 + 1, "  and 2 more")
    assert max(map(len, lines)) < 300


def test_a_count_is_exact(either: PgQueuer) -> None:
    assert testing.assert_enqueued(either, "fetch", count=0) == []
    ids = [either.enqueue("fetch") for _ in range(2)]
    assert [job.id for job in testing.assert_enqueued(either, "fetch", count=2)] == ids
    assert testing.assert_enqueued(either, "fetch").id == ids[0]
    for count in (0, 1, 3):
        with pytest.raises(AssertionError, match=f"^2 such jobs are enqueued and not {count}:"):
            testing.assert_enqueued(either, "fetch", count=count)


def test_jobs_count_until_they_are_finished(either: PgQueuer) -> None:
    @either.entrypoint("hold")
    def hold(job: object) -> None:
        testing.assert_enqueued(either, "hold")
        raise Hold

    either.entrypoint("work")(lambda job: testing.assert_enqueued(either, "work"))
    for name in ("hold", "work", "waits"):
        either.enqueue(name)
    assert testing.drain(either).counts == {"held": 1, "succeeded": 1}
    assert [(job.entrypoint, job.status) for job in testing.enqueued(either)] == [("hold", "held"), ("waits", "queued")]
    assert [job.entrypoint for job in testing.enqueued(either, SimpleNamespace(name="waits"))] == ["waits"]
    testing.assert_not_enqueued(either, "work")


def test_an_argument_that_does_not_exist_is_refused(either: PgQueuer) -> None:
    with pytest.raises(TypeError, match="there is no argument 'payloads': payload, arguments, headers"):
        testing.assert_not_enqueued(either, "fetch", payloads="x")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="there is no argument 'payloads'"):
        testing.assert_enqueued(either, "fetch", payloads="x")  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("due", "error"),
    [(5, TypeError), (0.5, TypeError), ("5m", TypeError), (START.replace(tzinfo=None), ValueError)],
)
def test_a_time_that_enqueue_refuses_is_refused_here_too(application: PgQueuer, due: Any, error: type[Exception]) -> None:
    for assertion in (testing.assert_enqueued, testing.assert_not_enqueued):
        with pytest.raises(error, match=r"^execute_after="):
            assertion(application, "fetch", execute_after=due)


def test_a_misspelt_entrypoint_is_told_with_a_close_one(application: PgQueuer) -> None:
    application.entrypoint("shop.push")(print)
    for misspelt, meant in (("shop.pusch", "shop.push"), ("fetsch", "fetch")):
        with pytest.raises(AssertionError, match=f"no entrypoint '{misspelt}' is known; did you mean '{meant}'"):
            testing.assert_enqueued(application, misspelt)


def test_one_job_is_told_in_the_singular(application: PgQueuer) -> None:
    with pytest.raises(AssertionError, match=r"^1 such job is enqueued and not 2:"):
        testing.assert_enqueued(application, "fetch", count=2)
