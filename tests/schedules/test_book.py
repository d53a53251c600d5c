"""`pgq.schedules` on both stores: what it adds, changes and refuses."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from pgq_sync import Job, PayloadTooLarge, PgQueuer, ScheduleRecord, Settings
from tests.schedules.support import HOUR, MINUTE, NOON, START, Timed
from tests.storage.links import DRIVERS, KINDS, linked


def names(pgq: PgQueuer) -> list[tuple[str, str]]:
    return [(each.name, each.expression) for each in pgq.schedules.list()]


def test_what_is_added_is_listed_with_everything(timed: Timed) -> None:
    options: Any = {"timezone": "Europe/Berlin", "on_missed": "skip", "jitter": 1.5, "queue": "night", "priority": -3}
    made = timed.pgq.schedules.add("customer 7", " 0  9 * * MON-FRI", **options, entrypoint="report", payload="7")
    assert made == ScheduleRecord(
        name="customer 7",
        entrypoint="report",
        expression="0 9 * * mon-fri",
        timezone="Europe/Berlin",
        queue="night",
        priority=-3,
        on_missed="skip",
        jitter=timedelta(seconds=1.5),
        next_at=START.replace(day=19, hour=7, minute=0),
        last_at=None,
        paused_at=None,
        payload=b"7",
    )
    timed.pgq.schedules.add("cleanup", "@daily")
    assert [each.name for each in timed.pgq.schedules.list()] == ["cleanup", "customer 7"]
    assert timed.pgq.schedules.list()[1] == made


def test_adding_again_changes_and_keeps_times_and_pause(timed: Timed) -> None:
    book = timed.pgq.schedules
    book.add("cleanup", "0 * * * *", payload="old")
    timed.tick_at(NOON)
    book.pause("cleanup")
    timed.now = NOON + MINUTE
    changed = book.add("cleanup", "0 * * * *", on_missed="all", queue="night")
    assert (changed.on_missed, changed.queue, changed.payload) == ("all", "night", None)
    assert (changed.last_at, changed.next_at, changed.paused_at) == (NOON, NOON + HOUR, NOON)
    assert book.add("cleanup", "0 * * * *", timezone="Asia/Kathmandu").next_at == NOON + 15 * MINUTE
    assert len(book.list()) == 1


def test_the_ticks_of_another_entrypoint_are_its_ordinary_jobs(timed: Timed) -> None:
    seen: list[tuple[bytes | None, Any]] = []

    @timed.pgq.entrypoint("report")
    def report(job: Job) -> None:
        seen.append((job.payload, job.headers))

    for customer in ("7", "8"):
        timed.pgq.schedules.add(f"customer {customer}", "0 * * * *", entrypoint="report", payload=customer)
    timed.tick_at(NOON, "report")
    assert timed.pgq.drain().counts == {"succeeded": 2}
    assert sorted((payload, headers["pgq_schedule"]["name"]) for payload, headers in seen) == [
        (b"7", "customer 7"),
        (b"8", "customer 8"),
    ]


def test_the_ticks_of_a_task_call_it(timed: Timed) -> None:
    seen: list[tuple[int, bool]] = []

    @timed.pgq.task("remind")
    def remind(customer: int = 0, *, copy: bool = False) -> None:
        seen.append((customer, copy))

    made = timed.pgq.schedules.add("one", "0 * * * *", entrypoint=remind, payload=remind.payload(7, copy=True))
    assert (made.entrypoint, made.payload) == ("remind", remind.payload(7, copy=True))
    timed.pgq.schedules.add("two", "0 * * * *", entrypoint=remind)
    timed.tick_at(NOON, "remind")
    assert timed.pgq.drain().counts == {"succeeded": 2}
    assert sorted(seen) == [(0, False), (7, True)]


def test_a_task_that_cannot_be_called_without_arguments_is_refused_without_a_payload(timed: Timed) -> None:
    @timed.pgq.task("remind")
    def remind(customer: int) -> None: ...

    with pytest.raises(TypeError, match="'customer'"):
        timed.pgq.schedules.add("one", "0 * * * *", entrypoint=remind)
    assert timed.pgq.schedules.list() == []


def test_ticks_go_to_the_queue_that_their_entrypoint_was_declared_with(timed: Timed) -> None:
    @timed.pgq.entrypoint("report", queue="night")
    def report(job: Job) -> None: ...

    book = timed.pgq.schedules
    assert book.add("report", "@daily").queue == "night"
    assert book.add("customer 7", "@daily", entrypoint="report").queue == "night"
    assert book.add("customer 8", "@daily", entrypoint="report", queue="day").queue == "day"


def test_ticks_during_a_pause_are_not_missed(timed: Timed) -> None:
    book = timed.pgq.schedules
    book.add("cleanup", "0 * * * *", on_missed="all")
    assert (book.pause("cleanup"), book.pause("cleanup")) == (1, 0)
    assert timed.tick_at(NOON + 2 * HOUR) is None
    timed.now = NOON + 2 * HOUR + MINUTE
    assert (book.resume("cleanup"), book.resume("cleanup")) == (1, 0)
    assert timed.tick() == 59 * 60
    assert timed.jobs() == []
    timed.tick_at(NOON + 3 * HOUR)
    assert timed.dues() == [NOON + 3 * HOUR]


def test_a_short_pause_changes_no_time(timed: Timed) -> None:
    timed.pgq.schedules.add("cleanup", "0 * * * *")
    timed.pgq.schedules.pause("cleanup")
    timed.pgq.schedules.resume("cleanup")
    timed.tick_at(NOON)
    assert timed.dues() == [NOON]


def test_a_pause_outlives_the_start_of_a_worker(timed: Timed) -> None:
    timed.deploy(("0 * * * *", {}))
    timed.pgq.schedules.pause("cleanup")
    timed.deploy(("0 * * * *", {"queue": "night"}))
    assert timed.tick_at(NOON) is None


def test_what_the_code_declares_comes_back_at_the_next_start(timed: Timed) -> None:
    timed.deploy(("0 * * * *", {}))
    assert timed.pgq.schedules.remove("cleanup") == 1
    assert names(timed.pgq) == []
    timed.deploy(("0 * * * *", {}))
    assert names(timed.pgq) == [("cleanup", "0 * * * *")]


@pytest.mark.parametrize("action", ["pause", "resume", "remove"])
def test_one_expression_or_all_of_a_name(timed: Timed, action: str) -> None:
    book = timed.pgq.schedules
    for expression in ("0 * * * *", "30 * * * *", "@daily"):
        book.add("cleanup", expression)
    book.add("report", "@daily")
    if action == "resume":
        assert book.pause("cleanup") == 3
    assert getattr(book, action)("cleanup", " 30 * * * *") == 1
    assert getattr(book, action)("cleanup") == 2
    (report,) = book.find("report")
    assert report.paused_at is None


def test_a_run_now_is_the_job_that_a_tick_would_be(timed: Timed) -> None:
    book = timed.pgq.schedules
    book.add("cleanup", "@daily", payload="daily")
    book.add("cleanup", "0 * * * *", queue="night", priority=3, payload="hourly", jitter=3600)
    before = book.list()
    first, second = book.run_now("cleanup"), book.run_now("cleanup", "@daily")

    one, other = timed.jobs()
    assert (one.id, one.queue, one.priority, one.payload, one.execute_after) == (first, "night", 3, b"hourly", START)
    assert (other.id, other.queue, other.payload) == (second, "default", b"daily")
    assert timed.dues() == [START, START]
    assert book.list() == before


@pytest.mark.parametrize("action", ["find", "pause", "resume", "remove", "run_now"])
def test_a_name_that_nobody_has_is_refused_with_close_ones(timed: Timed, action: str) -> None:
    act: Callable[..., Any] = getattr(timed.pgq.schedules, action)
    with pytest.raises(ValueError, match=r"^there is no schedule 'clenup'; there are none$"):
        act("clenup")
    timed.pgq.schedules.add("cleanup", "0 * * * *")
    timed.pgq.schedules.add("zebra", "0 * * * *")
    with pytest.raises(ValueError, match=r"^there is no schedule 'clenup'; did you mean 'cleanup'\?$"):
        act("clenup")
    with pytest.raises(ValueError, match=r"; there are cleanup, zebra$"):
        act("x")
    with pytest.raises(TypeError, match=r"^name=5 must be a str"):
        act(5)
    if action != "find":
        with pytest.raises(ValueError, match=r"^schedule 'cleanup' has no expression '@daily'; it has '0 \* \* \* \*'$"):
            act("cleanup", "@daily")
        with pytest.raises(TypeError, match=r"^expression=5 must be a str"):
            act("cleanup", 5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "name='' has 0 characters"),
        ({"name": "a\x00"}, "NUL"),
        ({"expression": "61 * * * *"}, "expression='61"),
        ({"timezone": "Mars/Olympus"}, "IANA names such as Europe/Berlin"),
        ({"on_missed": "never"}, "on_missed='never': 'once', 'all' or 'skip'"),
        ({"jitter": -1}, "jitter=-1"),
        ({"queue": ""}, "queue=''"),
        ({"priority": 99_999}, "priority=99999"),
        ({"entrypoint": ""}, "entrypoint=''"),
        ({"payload": 5}, "payload=5 must be bytes, str or None"),
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_refused_at_once(timed: Timed, changes: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError)) as refused:
        timed.pgq.schedules.add(**({"name": "cleanup", "expression": "@daily"} | changes))
    assert message in str(refused.value)
    assert timed.pgq.schedules.list() == []


def test_a_payload_that_is_too_large_is_refused() -> None:
    pgq = PgQueuer.in_memory(settings=Settings(max_payload=10))
    with pytest.raises(PayloadTooLarge):
        pgq.schedules.add("cleanup", "@daily", payload="x" * 11)


@pytest.mark.parametrize("autocommit", [True, False], ids=["autocommit", "transaction"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_call_runs_on_every_connection(pgq: PgQueuer, dsn: str, kind: str, autocommit: bool) -> None:
    with linked(kind, dsn, autocommit=autocommit) as link:
        book = pgq.on(link.given).schedules
        made = book.add("cleanup", "0 * * * *", payload="x", jitter=2, entrypoint="work")
        book.add("cleanup", "@daily")
        assert made == book.find("cleanup")[0]
        assert (made.payload, made.jitter, made.next_at.utcoffset()) == (b"x", timedelta(seconds=2), timedelta())
        assert (book.pause("cleanup"), book.resume("cleanup", "@daily"), book.remove("cleanup", "@daily")) == (2, 1, 1)
        job_id = book.run_now("cleanup")
        link.commit()

    (record,) = pgq.schedules.list()
    assert (record.expression, record.paused_at is not None) == ("0 * * * *", True)
    job = pgq.jobs.get(job_id)
    assert job is not None
    assert (job.entrypoint, job.payload) == ("work", b"x")


@pytest.mark.parametrize("kind", DRIVERS)
def test_what_rolls_back_was_not_done(pgq: PgQueuer, dsn: str, kind: str) -> None:
    pgq.schedules.add("cleanup", "@daily")
    pgq.schedules.add("report", "@daily")
    before = pgq.schedules.list()
    with linked(kind, dsn, autocommit=False) as link:
        book = pgq.on(link.given).schedules
        book.add("other", "@daily")
        book.pause("report")
        book.run_now("report")
        book.remove("cleanup")
        with pytest.raises(ValueError, match="there is no schedule"):
            book.pause("nobody")
        assert link.run("select 7") == [(7,)]
        link.rollback()
    assert pgq.schedules.list() == before
    assert pgq.jobs.find() == []
