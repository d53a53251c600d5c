"""What type checkers make of tasks: read by them, never run. They report the lines that end in `# error`, and no others."""

# pyright: strict, reportUnknownLambdaType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from typing_extensions import assert_type

from pgq_sync import (
    Context,
    ContextTask,
    DatabaseRetry,
    EntrypointExecutor,
    Job,
    JobId,
    NewJob,
    PgQueuer,
    Schedule,
    Task,
)

T = TypeVar("T")

pgq = PgQueuer.from_dsn()


@pgq.task
def bare(order_id: int, *, copy: bool = False) -> str:
    return str(order_id) * copy


@pgq.task()
def empty_brackets(order_id: int) -> str:
    return str(order_id)


@pgq.task("named", priority=5, retry=DatabaseRetry(max_attempts=5), queue="mail", timeout=timedelta(seconds=5))
def named(order_id: int, name: str = "", *numbers: float) -> list[str]:
    return [name]


@pgq.task(dedupe_key=lambda order_id, **_: f"receipt:{order_id}", dedupe_until="started", on_conflict="existing")
def keyed(order_id: int) -> None: ...


@pgq.task(dedupe_key="one", executor_factory=EntrypointExecutor, transactional=True)
def with_context(context: Context, order_id: int, *, copy: bool = False) -> bytes:
    return b""


@pgq.task
def with_context_alone(context: Context, /) -> None: ...


@pgq.task
def without_parameters() -> None: ...


@pgq.task
def anything_first(value: Any, times: int) -> int:
    return times


@pgq.task
def object_first(value: object, times: int) -> int:
    return times


@pgq.task
def keywords(*, order_id: int, **others: str) -> None: ...


# The decorated function

assert_type(bare(7, copy=True), str)
assert_type(named(7), list[str])
bare("7")  # error
bare()  # error
named(7, "a", "b")  # error
bare.name.upper()
assert_type(bare.func, Callable[..., str])

plain: Task[[int], str] = empty_brackets
wrong_parameters: Task[[str], str] = empty_brackets  # error
wrong_result: Task[[int], int] = empty_brackets  # error


def decorates(function: Callable[[int], T]) -> T:
    return function(7)


assert_type(decorates(empty_brackets), str)
assert_type(pgq.task(len)("abc"), int)

# Enqueuing

assert_type(bare.enqueue(7, copy=True), JobId)
assert_type(bare.enqueue(order_id=7), JobId)
assert_type(keyed.enqueue(7), JobId)
assert_type(without_parameters.enqueue(), JobId)
assert_type(named.enqueue(7, "a", 1.5, 2), JobId)
assert_type(keywords.enqueue(order_id=7, note="b"), JobId)
bare.enqueue("7")  # error
bare.enqueue()  # error
bare.enqueue(7, True)  # error
bare.enqueue(7, copies=True)  # error
bare.enqueue(7, copy="yes")  # error
named.enqueue(7, "a", "b")  # error
without_parameters.enqueue(7)  # error
keywords.enqueue(order_id=7, note=8)  # error

assert_type(bare.payload(7, copy=True), bytes)
bare.payload("7")  # error
NewJob(entrypoint=bare.name, payload=bare.payload(7))

assert_type(bare.enqueue_many([(7,), ((8,), {"copy": True})]), list[JobId])
assert_type(bare.enqueue_many((order,) for order in range(3)), list[JobId])
bare.enqueue_many([7])  # error
bare.enqueue_many(7)  # error

# With other options

assert_type(bare.using(priority=5).enqueue(7, copy=True), JobId)
assert_type(bare.using(on_conflict="existing", dedupe_key="a").enqueue(7), JobId)
assert_type(bare.using(on_conflict="skip").enqueue(7), JobId | None)
assert_type(bare.using(on_conflict="replace", priority=1).enqueue_many([(7,)]), list[JobId | None])
assert_type(bare.using(priority=5).enqueue_many([(7,)]), list[JobId])
bare.using(execute_after=timedelta(minutes=1), dedupe_until="started", headers={"a": 1}, queue="mail", notify=False).enqueue(7)
bare.using(connection=object(), dedupe_key=lambda order_id, copy: f"{order_id}").enqueue(7)
bare.using(dedupe_key=None).enqueue(7)
bare.using(priority=5).enqueue("7")  # error
bare.using(priority=5).enqueue(7, copies=True)  # error
bare.using(prio=5)  # error
bare.using(priority="high")  # error
bare.using(on_conflict="ignore")  # error
bare.using(5)  # error
with_none: JobId = bare.using(on_conflict="skip").enqueue(7)  # error

# With the context first


def in_a_handler(context: Context) -> None:
    assert_type(with_context(context, 7, copy=True), bytes)
    assert_type(bare.using(context=context).enqueue(7), JobId)
    context.enqueue(bare.name, bare.payload(7))
    with_context(7)  # error
    with_context_alone(context)
    with_context_alone()  # error


of_its_type: ContextTask[..., bytes] = with_context
assert_type(with_context.enqueue(7, copy=True), JobId)
assert_type(with_context_alone.enqueue(), JobId)
assert_type(with_context.using(on_conflict="skip").enqueue(7), JobId | None)
with_context.enqueue("7")  # error
with_context.enqueue(None, 7)  # error
with_context.using(priority=1).enqueue()  # error

# Unchecked: a function that takes anything first may or may not want the context

anything_first.enqueue("a", 3)
anything_first.enqueue(value="a", times=3)
object_first.enqueue("a", 3)
object_first.enqueue(value="a", times=3)
assert_type(object_first("a", 3), int)

# Declaring

pgq.task(priority="high")  # error
pgq.task("name", on_conflict="skip")  # error
pgq.task("name", colour="red")  # error
pgq.task("name", accepts_context=True)  # error
pgq.task(dedupe_key=7)  # error
pgq.task(7)  # error

# The other decorators keep what they decorate


@pgq.entrypoint("fetch", concurrency_limit=3)
def fetch(job: Job, context: Context) -> int:
    return job.id


@pgq.schedule("cleanup", "0 * * * *", store_result=True)
def cleanup(schedule: Schedule) -> str:
    return schedule.name


def as_before(job: Job, context: Context, schedule: Schedule) -> None:
    assert_type(fetch(job, context), int)
    assert_type(cleanup(schedule), str)
    fetch(job)  # error


pgq.entrypoint("fetch", colour="red")  # error
assert_type(pgq.enqueue("fetch", b"payload"), JobId)
assert_type(pgq.enqueue("fetch", on_conflict="skip"), JobId | None)
pgq.enqueue("fetch", 7)  # error
