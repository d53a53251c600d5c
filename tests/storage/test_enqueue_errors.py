"""What cannot be enqueued is refused with an error that names it, and nothing is written; in raw SQL too."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any, cast

import psycopg
import pytest

from pgq_sync import NewJob, PayloadTooLarge, PgQueuer, Settings
from tests.storage.support import query

LONE = "a\ud800b"
NAN = float("nan")
CIRCLE: dict[str, list[Any]] = {"a": []}
CIRCLE["a"].append(CIRCLE)


class Named:
    """As a task is."""

    name = "work"

    def __repr__(self) -> str:
        return self.name


@pytest.mark.parametrize(
    ("misuse", "complaint"),
    [
        (lambda pgq: pgq.enqueue("work", notify="no"), "notify='no': True or False is accepted, not str"),
        (lambda pgq: pgq.enqueue("work", prioriti=5), "there is no option 'prioriti'; did you mean 'priority'?"),
        (
            lambda pgq: pgq.enqueue("work", delay=5),
            "there is no option 'delay'; known: entrypoint, payload, priority, execute_after, dedupe_key, dedupe_until, headers, "
            "queue, on_conflict, notify",
        ),
        (
            lambda pgq: pgq.enqueue(Named()),
            "entrypoint=work must be a str, not Named: give its `.name`, or call a task's `.enqueue`",
        ),
        (lambda pgq: pgq.enqueue_many([], notify=None), "notify=None: True or False is accepted, not NoneType"),
        (lambda pgq: pgq.enqueue_many(None), "jobs=None must be an iterable of NewJob, not NoneType"),
    ],
)
def test_arguments_of_another_type_are_named(either: PgQueuer, misuse: Callable[[PgQueuer], Any], complaint: str) -> None:
    with pytest.raises(TypeError) as refused:
        misuse(either)
    assert str(refused.value) == complaint
    assert either.jobs.count() == {}


# What is given, the error, and what its message must contain.
BAD: dict[str, tuple[dict[str, Any], type[Exception], list[str]]] = {
    "entrypoint of no characters": ({"entrypoint": ""}, ValueError, ["entrypoint=''", "0 characters", "1 to 200"]),
    "entrypoint of 201 characters": ({"entrypoint": "ä" * 201}, ValueError, ["entrypoint='ää", "201 characters", "200"]),
    "entrypoint with a NUL": ({"entrypoint": "a\x00b"}, ValueError, ["entrypoint='a\\x00b'", "NUL"]),
    "entrypoint with a lone surrogate": ({"entrypoint": LONE}, ValueError, ["entrypoint='a\\ud800b'", "surrogate"]),
    "entrypoint of bytes": ({"entrypoint": b"work"}, TypeError, ["entrypoint=b'work'", "bytes"]),
    "entrypoint None": ({"entrypoint": None}, TypeError, ["entrypoint=None", "NoneType"]),
    "queue of no characters": ({"queue": ""}, ValueError, ["queue=''", "0 characters", "1 to 200"]),
    "queue of 201 characters": ({"queue": "q" * 201}, ValueError, ["queue='qq", "201 characters", "200"]),
    "queue with a NUL": ({"queue": "\x00"}, ValueError, ["queue='\\x00'", "NUL"]),
    "queue with a lone surrogate": ({"queue": LONE}, ValueError, ["queue='a\\ud800b'", "surrogate"]),
    "queue None": ({"queue": None}, TypeError, ["queue=None"]),
    "payload of a number": ({"payload": 42}, TypeError, ["payload", "bytes, str or None, not int", "@pgq.task"]),
    "payload of a mapping": ({"payload": {"a": 1}}, TypeError, ["payload", "bytes, str or None, not dict", "@pgq.task"]),
    "payload with a lone surrogate": ({"payload": LONE}, ValueError, ["payload", "a\\ud800b", "surrogate"]),
    "priority of a float": ({"priority": 1.0}, TypeError, ["priority=1.0", "float"]),
    "priority of a text": ({"priority": "1"}, TypeError, ["priority='1'", "str"]),
    "priority of a bool": ({"priority": True}, TypeError, ["priority=True", "bool"]),
    "priority None": ({"priority": None}, TypeError, ["priority=None"]),
    "priority too large": ({"priority": 32768}, ValueError, ["priority=32768", "32767"]),
    "priority too small": ({"priority": -32769}, ValueError, ["priority=-32769", "-32768"]),
    "naive datetime": ({"execute_after": datetime(2030, 1, 2)}, ValueError, ["execute_after=2030-01-02", "time zone"]),  # noqa: DTZ001
    "execute_after of a number": ({"execute_after": 5}, TypeError, ["execute_after=5", "int", "timedelta"]),
    "execute_after of a text": ({"execute_after": "2030-01-02"}, TypeError, ["execute_after='2030-01-02'", "str"]),
    "execute_after too far": ({"execute_after": timedelta.max}, ValueError, ["execute_after=999999999 days", "days"]),
    "execute_after of the last year": (
        {"execute_after": datetime.max.replace(tzinfo=timezone.utc)},
        ValueError,
        ["execute_after=9999-12-31"],
    ),
    "execute_after of the first year": (
        {"execute_after": datetime.min.replace(tzinfo=timezone.utc)},
        ValueError,
        ["execute_after=0001-01-01"],
    ),
    "dedupe_key of a number": ({"dedupe_key": 7}, TypeError, ["dedupe_key=7", "int"]),
    "dedupe_key of no characters": ({"dedupe_key": ""}, ValueError, ["dedupe_key=''", "0 characters"]),
    "dedupe_key too long": ({"dedupe_key": "k" * 2001}, ValueError, ["dedupe_key='kkk", "2001", "2,000"]),
    "dedupe_key too long in bytes": ({"dedupe_key": "ä" * 1001}, ValueError, ["dedupe_key='äää", "2,000 bytes"]),
    "dedupe_key with a NUL": ({"dedupe_key": "\x00"}, ValueError, ["dedupe_key='\\x00'", "NUL"]),
    "dedupe_key with a lone surrogate": ({"dedupe_key": LONE}, ValueError, ["dedupe_key='a\\ud800b'", "surrogate"]),
    "unknown dedupe_until": ({"dedupe_until": "claimed"}, ValueError, ["dedupe_until='claimed'", "finished", "started"]),
    "dedupe_until None": ({"dedupe_until": None}, ValueError, ["dedupe_until=None"]),
    "headers of a list": ({"headers": [("a", 1)]}, TypeError, ["headers", "list"]),
    "headers of a text": ({"headers": "{}"}, TypeError, ["headers", "str"]),
    "header key that is no text": ({"headers": {1: "a"}}, TypeError, ["headers", "1", "int"]),
    "header that is not finite": ({"headers": {"ratio": NAN}}, ValueError, ["headers", "nan"]),
    "header that is not finite, within": ({"headers": {"a": [{"b": -float("inf")}]}}, ValueError, ["headers", "inf"]),
    "header that JSON cannot express": ({"headers": {"a": {1, 2}}}, TypeError, ["headers", "set"]),
    "header with a NUL": ({"headers": {"a": ["x\x00"]}}, ValueError, ["headers", "NUL"]),
    "header with a lone surrogate": ({"headers": {"a": {LONE: 1}}}, ValueError, ["headers", "surrogate"]),
    "headers without an end": ({"headers": CIRCLE}, ValueError, ["headers"]),
    "unknown on_conflict": ({"on_conflict": "ignore"}, ValueError, ["on_conflict='ignore'", "'skip'", "'replace'"]),
    "on_conflict None": ({"on_conflict": None}, ValueError, ["on_conflict=None"]),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_value_is_refused_by_name(either: PgQueuer, case: str) -> None:
    given, error, words = BAD[case]

    with pytest.raises(error) as caught:
        either.enqueue(**({"entrypoint": "work"} | given))

    assert type(caught.value) is error
    message = str(caught.value)
    assert [word for word in words if word not in message] == []
    assert "\n" not in message
    assert either.jobs.count() == {}


@pytest.mark.parametrize("case", [case for case in BAD if "on_conflict" not in case])
def test_one_bad_value_refuses_the_batch(either: PgQueuer, case: str) -> None:
    given, error, _ = BAD[case]

    with pytest.raises(error):
        either.enqueue_many([NewJob(entrypoint="work"), NewJob(**({"entrypoint": "work"} | given))])

    assert either.jobs.count() == {}


@pytest.mark.parametrize("mode", ["ignore", None, "", "RAISE"])
def test_a_batch_refuses_an_unknown_mode_before_it_looks_at_a_job(either: PgQueuer, mode: Any) -> None:
    with pytest.raises(ValueError, match="on_conflict"):
        either.enqueue_many(iter(lambda: pytest.fail("the jobs were looked at"), None), on_conflict=mode)


@pytest.mark.parametrize("job", ["work", {"entrypoint": "work"}, ("work", b""), None])
def test_a_batch_takes_only_new_jobs(either: PgQueuer, job: Any) -> None:
    with pytest.raises(TypeError, match="NewJob"):
        either.enqueue_many([NewJob(entrypoint="work"), job])

    assert either.jobs.count() == {}


@pytest.mark.parametrize("payload", [b"x" * (1024 * 1024 + 1), "ä" * (512 * 1024 + 1)], ids=["bytes", "text"])
def test_a_payload_that_is_too_large_is_refused_with_both_sizes(either: PgQueuer, payload: Any) -> None:
    with pytest.raises(PayloadTooLarge) as caught:
        either.enqueue("work", payload)

    assert caught.value.size == len(payload if isinstance(payload, bytes) else payload.encode())
    assert caught.value.limit == 1024 * 1024
    for size in (caught.value.size, caught.value.limit):
        assert f"{size:,}" in str(caught.value)
    assert either.jobs.count() == {}


def test_the_largest_payload_is_a_setting(dsn: str) -> None:
    with PgQueuer.from_dsn(dsn, settings=Settings(max_payload=3)) as pgq:
        pgq.enqueue("work", b"abc")
        with pytest.raises(PayloadTooLarge, match=r"4 bytes.*limit is 3"):
            pgq.enqueue("work", b"abcd")


def test_the_largest_of_everything_is_accepted(either: PgQueuer) -> None:
    either.enqueue(
        "ä" * 200,
        b"x" * (1024 * 1024),
        priority=32767,
        queue="q" * 200,
        dedupe_key="ä" * 1000,
        execute_after=datetime(9998, 12, 31, 23, 59, tzinfo=timezone(timedelta(hours=-12))),
    )
    either.enqueue("w", "", priority=-32768, queue="q", dedupe_key="k", execute_after=timedelta.min, headers={})

    assert [record.headers for record in either.jobs.find()] == [{}, None]


# What raw SQL may not put into the table, and what PostgreSQL answers.
RAW: dict[str, tuple[str, type[psycopg.Error]]] = {
    "entrypoint of no characters": ("entrypoint => ''", psycopg.errors.CheckViolation),
    "entrypoint of 201 characters": ("entrypoint => repeat('ä', 201)", psycopg.errors.CheckViolation),
    "entrypoint null": ("entrypoint => null", psycopg.errors.NotNullViolation),
    "queue of no characters": ("queue => ''", psycopg.errors.CheckViolation),
    "queue of 201 characters": ("queue => repeat('q', 201)", psycopg.errors.CheckViolation),
    "priority too large": ("priority => 32768", psycopg.errors.NumericValueOutOfRange),
    "priority too small": ("priority => -32769", psycopg.errors.NumericValueOutOfRange),
    "execute_after without an end": ("execute_after => 'infinity'", psycopg.errors.CheckViolation),
    "execute_after of a year of five digits": ("execute_after => '12000-01-01 00:00+00'", psycopg.errors.CheckViolation),
    "dedupe_key of no characters": ("dedupe_key => ''", psycopg.errors.CheckViolation),
    "dedupe_key too long": ("dedupe_key => repeat('k', 2001)", psycopg.errors.CheckViolation),
    "unknown dedupe_until": ("dedupe_until => 'claimed'", psycopg.errors.CheckViolation),
    "headers that are no object": ("headers => '[1]'", psycopg.errors.CheckViolation),
}


@pytest.mark.parametrize("keyed", [False, True], ids=["without a key", "with a key"])
@pytest.mark.parametrize("case", RAW)
def test_the_sql_function_refuses_what_python_refuses(dsn: str, case: str, keyed: bool) -> None:
    given, error = RAW[case]
    options = [given]
    if not given.startswith("entrypoint"):
        options.append("entrypoint => 'work'")
    if keyed and not given.startswith("dedupe_key"):
        options.append("dedupe_key => 'k'")

    with pytest.raises(error):
        query(dsn, f"select pgq_enqueue({', '.join(options)})")

    assert query(dsn, "select count(*) from pgq_job") == [(0,)]


# The rest is for the function to check: each constraint of the table costs every enqueue and every claim.
BREAKS_WORKERS = ["entrypoint null", "priority too large", *(case for case in RAW if case.startswith("execute_after"))]


def test_the_table_refuses_a_status_that_nobody_would_ever_look_at(dsn: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        query(dsn, "insert into pgq_job (entrypoint, status) values ('work', 'Queued')")


@pytest.mark.parametrize("created_at", ["-infinity", "infinity", "12000-01-01 00:00+00"])
def test_the_table_refuses_a_created_at_that_no_worker_could_read(dsn: str, created_at: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        query(dsn, "insert into pgq_job (entrypoint, created_at) values ('work', %s)", [created_at])


@pytest.mark.parametrize("case", BREAKS_WORKERS)
def test_the_table_itself_refuses_what_would_break_a_worker(dsn: str, case: str) -> None:
    given, error = RAW[case]
    column, value = given.split(" => ")
    columns, values = [column], [value]
    if column != "entrypoint":
        columns, values = ["entrypoint", column], ["'work'", value]

    with pytest.raises(error):
        query(dsn, f"insert into pgq_job ({', '.join(columns)}) values ({', '.join(values)})")

    assert query(dsn, "select count(*) from pgq_job") == [(0,)]


@pytest.mark.parametrize(
    ("job", "error", "message"),
    [
        (
            NewJob(entrypoint="x", payload=cast(Any, {"a": 1})),
            TypeError,
            r"payload=\{'a': 1\} must be bytes, str or None, not dict",
        ),
        (NewJob(entrypoint="x", headers=cast(Any, [5])), TypeError, r"headers=\[5\] must be a mapping, not list"),
        (NewJob(entrypoint="x", priority=40_000), ValueError, "priority=40000 is out of range"),
        (NewJob(entrypoint="x", payload=b"x" * 2_000_000), PayloadTooLarge, "the payload has 2,000,000 bytes"),
        ("x", TypeError, "enqueue_many takes NewJob"),
    ],
)
def test_a_batch_tells_which_of_its_jobs_was_refused(either: PgQueuer, job: Any, error: type[Exception], message: str) -> None:
    for count in (1, 10_005):  # in the first slice, and in the second
        batch = [*(NewJob(entrypoint="x") for _ in range(count)), job]
        with pytest.raises(error, match=f"^item {count}: {message}"):
            either.enqueue_many(batch)
    assert either.jobs.count() == {}
