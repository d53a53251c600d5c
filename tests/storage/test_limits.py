"""Limits and pauses: what workers declare, what operators pause, and how it stands."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from pgq_sync import LimitRecord, PgQueuer, Settings
from pgq_sync.engine.limits import LocalLimits
from pgq_sync.models import DeclaredLimit, LimitChange, Room
from pgq_sync.storage.store import Limits
from tests.storage.conftest import Timed
from tests.storage.support import ear, hand, query, waiting, worker
from tests.waiting import PATIENCE, wait_until

LOOK = "[0, 1000000]"
RATE = DeclaredLimit("rate", requests_per_second=2.0, burst=10.0)
UNLIMITED = DeclaredLimit("rate")


def _paused(pgq: PgQueuer) -> list[tuple[str | None, str | None]]:
    return [(each.entrypoint, each.queue) for each in pgq.limits.list() if each.paused_at is not None]


def _only(limits: Limits) -> LimitRecord:
    (found,) = limits.records()
    return found


@pytest.mark.parametrize("target", [{"entrypoint": "work"}, {"queue": "mail"}, {"entrypoint": "work", "queue": "mail"}])
def test_a_pause_holds_until_it_is_taken_back(either: PgQueuer, target: dict[str, str]) -> None:
    assert either.limits.resume(**target) is False
    assert either.limits.pause(**target) is True
    assert either.limits.pause(**target) is False
    assert _paused(either) == [(target.get("entrypoint"), target.get("queue"))]

    assert either.limits.resume(**target) is True
    assert either.limits.resume(**target) is False
    assert either.limits.list() == []


def test_pauses_of_different_names_are_apart(either: PgQueuer) -> None:
    either.limits.pause("work")
    either.limits.pause(queue="work")
    either.limits.pause("work", "work")
    assert _paused(either) == [(None, "work"), ("work", None), ("work", "work")]

    assert either.limits.resume("work") is True
    assert _paused(either) == [(None, "work"), ("work", "work")]


def test_a_pause_outlives_who_made_it(pgq: PgQueuer, dsn: str) -> None:
    pgq.limits.pause("work")
    with PgQueuer.from_dsn(dsn, settings=Settings()) as another:
        assert _paused(another) == [("work", None)]


def test_the_time_of_a_pause_is_that_of_its_beginning(timed: Timed) -> None:
    timed.store.limits.pause(entrypoint="work", queue=None)
    began = timed.clock.now
    timed.clock.move(hours=1)
    timed.store.limits.pause(entrypoint="work", queue=None)

    assert _only(timed.store.limits).paused_at == began


MISUSES: list[tuple[Callable[[Any], Any], type[Exception], str]] = [
    (lambda limits: limits.pause(), ValueError, "neither entrypoint nor queue is given"),
    (lambda limits: limits.resume(), ValueError, "neither entrypoint nor queue is given"),
    (lambda limits: limits.pause(""), ValueError, "entrypoint='' has 0 characters"),
    (lambda limits: limits.pause(queue="q" * 201), ValueError, "has 201 characters: 1 to 200 are accepted"),
    (lambda limits: limits.resume(7), TypeError, "entrypoint=7 must be a str"),
]


@pytest.mark.parametrize(("misuse", "error", "message"), MISUSES)
def test_what_cannot_be_paused_is_refused(
    either: PgQueuer, misuse: Callable[[Any], Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        misuse(either.limits)
    assert message in str(caught.value)
    assert either.limits.list() == []


def test_every_worker_hears_of_a_change_at_once(pgq: PgQueuer, dsn: str) -> None:
    limits = pgq.store.limits
    limits.declare([DeclaredLimit("known", 3)], [])
    changes: list[tuple[Callable[[], object], bool]] = [
        (lambda: pgq.limits.pause("work"), True),
        (lambda: pgq.limits.pause("work"), False),
        (lambda: pgq.limits.resume("work"), True),
        (lambda: pgq.limits.resume("work"), False),
        (lambda: limits.declare([DeclaredLimit("new", 1)], []), True),
        (lambda: limits.declare([DeclaredLimit("new", 1), DeclaredLimit("known", 3)], ["unlimited"]), False),
        (lambda: limits.declare([DeclaredLimit("known", 4)], []), True),
        (lambda: limits.declare([], ["known"]), True),
        (lambda: limits.declare([], ["known"]), False),
        (lambda: limits.declare([], []), False),
    ]
    with ear(dsn) as listening:
        for number, (change, told) in enumerate(changes):
            change()
            assert (number, listening.heard()) == (number, [LOOK] if told else [])


def test_a_worker_is_woken_by_a_change(either: PgQueuer) -> None:
    woken = threading.Event()

    def sleep() -> None:
        with either.store.claimer(worker("work"), timedelta(minutes=5), LocalLimits({}), lambda: None) as claimer:
            claimer.arm()
            claimer.claim(Room(1))
            asleep.set()
            claimer.wait()
            claimer.claim(Room(1))
            woken.set()

    asleep = threading.Event()
    thread = threading.Thread(target=sleep, daemon=True)
    thread.start()
    assert asleep.wait(PATIENCE)
    either.limits.pause("work")
    assert woken.wait(PATIENCE)
    thread.join(PATIENCE)


def test_a_declared_limit_starts_with_a_full_bucket_that_refills(timed: Timed) -> None:
    limits = timed.store.limits
    assert limits.declare([DeclaredLimit("both", 5, 2.0, 10.0)], ["other"]) == []

    assert _only(limits) == LimitRecord(
        entrypoint="both",
        queue=None,
        concurrency_limit=5,
        requests_per_second=2.0,
        burst=10.0,
        tokens=10.0,
        running=0,
        paused_at=None,
    )
    _take(timed, 10)
    timed.clock.move(seconds=2.5)
    assert _only(limits).tokens == 5.0
    timed.clock.move(hours=1)
    assert _only(limits).tokens == 10.0
    assert limits.declare([DeclaredLimit("both", 5, 2.0, 10.0)], []) == []
    timed.clock.move(hours=-2)
    assert _only(limits).tokens == 0.0


def _take(timed: Timed, tokens: float) -> None:
    """What a claim does with the bucket of the only limit."""
    if hasattr(timed.store, "_state"):
        limits = timed.store._state.limits
        ((key, row),) = limits.items()
        limits[key] = dataclasses.replace(row, tokens=row.tokens - tokens)
    else:
        with timed.store._connections.session() as session:  # type: ignore[attr-defined]  # of the one store or the other
            session.run(f"update pgq_limit set tokens = tokens - {tokens}")


@pytest.mark.parametrize(("rate", "burst"), [(0.5, 1.0), (1.0, 1.0), (30.0, 30.0)])
def test_the_burst_is_one_seconds_worth_and_at_least_one(either: PgQueuer, rate: float, burst: float) -> None:
    either.store.limits.declare([DeclaredLimit("rate", requests_per_second=rate)], [])
    assert (_only(either.store.limits).burst, _only(either.store.limits).tokens) == (burst, burst)
    assert either.store.limits.declare([DeclaredLimit("rate", requests_per_second=rate)], []) == []


@pytest.mark.parametrize(
    ("later", "tokens"),
    [
        (DeclaredLimit("rate", 0, 5.0, 10.0), 6.0),
        (DeclaredLimit("rate", 0, 2.0, 4.0), 4.0),
        (DeclaredLimit("rate", 0, 2.0, 100.0), 6.0),
        (DeclaredLimit("rate", 7, 2.0, 10.0), 6.0),
        (DeclaredLimit("rate", 7), None),
    ],
)
def test_the_latest_declaration_holds_and_gives_nobody_tokens(timed: Timed, later: DeclaredLimit, tokens: float | None) -> None:
    limits = timed.store.limits
    limits.declare([RATE], [])
    _take(timed, 10)
    timed.clock.move(seconds=3)

    assert limits.declare([later], []) == [LimitChange(RATE, later)]

    found = _only(limits)
    assert DeclaredLimit("rate", found.concurrency_limit, found.requests_per_second, found.burst) == later
    assert found.tokens == tokens


def test_a_limit_that_is_no_longer_declared_is_lifted(timed: Timed) -> None:
    limits = timed.store.limits
    limits.declare([RATE], [])
    _take(timed, 10)
    limits.pause(entrypoint="rate", queue=None)

    assert limits.declare([], ["other", "rate"]) == [LimitChange(RATE, UNLIMITED)]

    found = _only(limits)
    assert (found.concurrency_limit, found.requests_per_second, found.burst, found.tokens) == (0, None, None, None)
    assert found.paused_at is not None
    assert limits.declare([RATE], []) == [LimitChange(UNLIMITED, RATE)]
    assert _only(limits).tokens == 10.0


def test_a_pause_is_no_earlier_declaration(either: PgQueuer) -> None:
    limits = either.store.limits
    either.limits.pause("rate")
    either.limits.pause("rate", "mail")

    assert limits.declare([], ["rate"]) == []
    assert limits.declare([RATE], []) == []
    assert _paused(either) == [("rate", None), ("rate", "mail")]
    assert [each.tokens for each in either.limits.list()] == [10.0, None]

    either.limits.resume("rate")
    assert limits.declare([RATE], []) == []
    assert [each.requests_per_second for each in either.limits.list() if each.queue is None] == [2.0]


def test_several_limits_are_declared_at_once(either: PgQueuer) -> None:
    limits = either.store.limits
    limits.declare([DeclaredLimit(name, 1) for name in "dbca"], ["e"])

    changes = limits.declare([DeclaredLimit("c", 2), DeclaredLimit("b", 1), DeclaredLimit("a", 3)], ["d", "e"])

    assert changes == [
        LimitChange(DeclaredLimit("a", 1), DeclaredLimit("a", 3)),
        LimitChange(DeclaredLimit("c", 1), DeclaredLimit("c", 2)),
        LimitChange(DeclaredLimit("d", 1), DeclaredLimit("d")),
    ]
    assert [(each.entrypoint, each.concurrency_limit) for each in either.limits.list()] == [("a", 3), ("b", 1), ("c", 2)]


def test_what_runs_is_counted_by_what_the_limit_covers(either: PgQueuer) -> None:
    for entrypoint, queue in (("a", "mail"), ("a", "mail"), ("a", "post"), ("b", "mail")):
        either.enqueue(entrypoint, queue=queue)
    with hand(either.store, "a", "b") as one:
        one.claim()
        either.enqueue("a", queue="mail")
        for target in ({"entrypoint": "a"}, {"queue": "mail"}, {"entrypoint": "a", "queue": "mail"}, {"entrypoint": "c"}):
            either.limits.pause(**target)

        assert {(each.entrypoint, each.queue): each.running for each in either.limits.list()} == {
            ("a", None): 3,
            (None, "mail"): 3,
            ("a", "mail"): 2,
            ("c", None): 0,
        }


@pytest.mark.parametrize("known", [False, True], ids=["new", "known"])
def test_declarations_in_opposite_order_never_wait_for_each_other(pgq: PgQueuer, dsn: str, known: bool) -> None:
    limits = pgq.store.limits
    if known:
        limits.declare([DeclaredLimit("a", 1), DeclaredLimit("z", 1)], [])
    with closing(psycopg.connect(dsn)) as holder, ThreadPoolExecutor(2) as threads:
        lock = "select from pgq_limit where entrypoint = 'a' for update"
        holder.execute((lock if known else "insert into pgq_limit (entrypoint) values ('a')").encode())
        one = threads.submit(limits.declare, [DeclaredLimit("a", 2), DeclaredLimit("z", 2)], [])
        wait_until(lambda: waiting(dsn) == 1)
        other = threads.submit(limits.declare, [DeclaredLimit("z", 3), DeclaredLimit("a", 3)], [])
        wait_until(lambda: waiting(dsn) == 2)
        holder.rollback()

        # Whoever came second found the numbers of the first.
        assert sorted(len(each.result()) for each in (one, other)) == [2 if known else 0, 2]


@pytest.mark.parametrize("known", [False, True], ids=["new", "known"])
def test_workers_that_start_at_once_never_wait_for_each_other(pgq: PgQueuer, dsn: str, known: bool) -> None:
    names = [f"e{number:02}" for number in range(50)]
    barrier = threading.Barrier(4)

    def declare(number: int) -> None:
        order = names[:: 1 if number % 2 else -1]
        for turn in range(10):
            barrier.wait(PATIENCE)
            limits = [DeclaredLimit(name, 10 * turn + number + 1) for name in order]
            pgq.store.limits.declare(limits[:40], [limit.entrypoint for limit in limits[40:]])

    if known:
        pgq.store.limits.declare([DeclaredLimit(name, 1000) for name in names], [])
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(declare, range(4)))

    rows = query(dsn, "select entrypoint, concurrency_limit from pgq_limit order by 1")
    assert [row[0] for row in rows] == names
    assert {row[1] for row in rows} <= {0, 91, 92, 93, 94}  # what was declared in the last turn
