"""Which callables are refused where they are registered, since every job would fail on them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest

from pgq_sync import AbstractEntrypointExecutor, Context, Job, PgQueuer, Schedule, ScheduleContext


def plain(job: Job) -> None: ...


async def coroutine(job: Job) -> None: ...


async def async_generator(job: Job) -> AsyncIterator[int]:
    yield 1


def generator(job: Job) -> Iterator[int]:
    yield 1


class Asynchronous:
    async def __call__(self, job: Job) -> None: ...

    async def method(self, job: Job) -> None: ...

    @staticmethod
    async def static(job: Job) -> None: ...


@pytest.mark.parametrize(
    "func",
    [
        coroutine,
        async_generator,
        functools.partial(coroutine),
        functools.partial(functools.partial(coroutine)),
        functools.partial(Asynchronous()),
        Asynchronous(),
        Asynchronous().method,
        Asynchronous.static,
        Asynchronous.__dict__["static"],
    ],
)
def test_an_async_function_is_refused_and_told_what_to_do(func: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match=r"is async: .*asyncio\.run"):
        PgQueuer.in_memory().entrypoint("probe")(func)


@pytest.mark.parametrize("func", [generator, functools.partial(generator), staticmethod(generator)])
def test_a_generator_is_refused(func: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match="is a generator"):
        PgQueuer.in_memory().entrypoint("probe")(func)


def nothing() -> None: ...


def keywords_alone(*, job: Job) -> None: ...


def too_many(job: Job, client: str, context: Context) -> None: ...


def two_annotated(job: Job, client: str) -> None: ...


def keyword_needed(job: Job, *, client: str) -> None: ...


@pytest.mark.parametrize("accepts_context", [None, True, False])
@pytest.mark.parametrize(
    ("func", "complaint"),
    [
        (nothing, "nothing takes no positional argument"),
        (keywords_alone, "keywords_alone takes no positional argument"),
        (too_many, "too_many needs client"),
        (keyword_needed, "keyword_needed needs client"),
    ],
)
def test_what_cannot_be_called_with_a_job_is_refused(
    func: Callable[..., Any], complaint: str, accepts_context: bool | None
) -> None:
    with pytest.raises(TypeError, match=complaint):
        PgQueuer.in_memory().entrypoint("probe", accepts_context=accepts_context)(func)


@pytest.mark.parametrize("accepts_context", [None, False])
def test_a_second_parameter_of_another_kind_is_refused_unless_it_shall_be_the_context(accepts_context: bool | None) -> None:
    with pytest.raises(TypeError, match="two_annotated needs client"):
        PgQueuer.in_memory().entrypoint("probe", accepts_context=accepts_context)(two_annotated)
    PgQueuer.in_memory().entrypoint("probe", accepts_context=True)(two_annotated)


def test_a_function_without_room_for_the_context_is_refused_where_it_shall_get_it() -> None:
    with pytest.raises(TypeError, match="plain has no parameter that could take the context"):
        PgQueuer.in_memory().entrypoint("probe", accepts_context=True)(plain)


def takes(annotation: Any) -> Callable[..., Any]:
    """A handler whose first parameter is annotated like this."""

    def handler(order: Any, *, around: Context | None = None) -> None: ...

    handler.__annotations__["order"] = annotation
    return handler


@pytest.fixture(params=["entrypoint", "schedule"])
def declare(request: pytest.FixtureRequest) -> Callable[..., Any]:
    pgq = PgQueuer.in_memory()
    if request.param == "entrypoint":
        return lambda **options: pgq.entrypoint("probe", **options)
    return lambda **options: pgq.schedule("probe", "@daily", **options)


@pytest.mark.parametrize("annotation", [int, str, bytes, dict, dict[str, Any], list[int], Context, ScheduleContext, "int"])
def test_a_first_parameter_that_could_take_no_job_is_refused(declare: Callable[..., Any], annotation: Any) -> None:
    with pytest.raises(TypeError, match=r"handler: order is annotated \w+, but a handler is called with its job .*@pgq\.task"):
        declare()(takes(annotation))


class Own:
    """Who knows: a job may look like it."""


@pytest.mark.parametrize(
    "annotation", [Job, Schedule, Any, object, Own, Job | int, "Job | None", "Unknown", inspect.Parameter.empty, TypeVar("J")]
)
def test_a_first_parameter_that_may_take_a_job_is_not_refused(declare: Callable[..., Any], annotation: Any) -> None:
    declare()(takes(annotation))


def test_what_an_executor_of_ones_own_calls_it_with_is_its_own_affair(declare: Callable[..., Any]) -> None:
    class ById(AbstractEntrypointExecutor):
        def execute(self, job: Job, context: Context) -> Any:
            return self.parameters.func(job.id)

    declare(executor_factory=ById)(takes(int))


def test_what_cannot_be_called_at_all_is_refused() -> None:
    with pytest.raises(TypeError, match="'probe' decorates 7, which cannot be called"):
        PgQueuer.in_memory().entrypoint("probe")(7)  # type: ignore[type-var]


def test_an_executor_factory_that_cannot_be_called_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="executor_factory=3: a subclass of AbstractEntrypointExecutor is accepted"):
        PgQueuer.in_memory().entrypoint("probe", executor_factory=3)  # type: ignore[arg-type]


def test_a_pool_in_place_of_an_executor_is_refused_and_told_the_way_out() -> None:
    with pytest.raises(TypeError, match=r"executor_factory=<class .*ThreadPoolExecutor'>: .*partial\(ProcessExecutor, pool="):
        PgQueuer.in_memory().entrypoint("probe", executor_factory=ThreadPoolExecutor)  # type: ignore[arg-type]


def test_an_entrypoint_without_a_name_is_told_to_give_one() -> None:
    with pytest.raises(TypeError, match=r"plain has no name to be enqueued under: write @pgq.entrypoint\('name'\)"):
        PgQueuer.in_memory().entrypoint(plain)  # type: ignore[arg-type]


def test_a_refused_function_leaves_the_name_free() -> None:
    pgq = PgQueuer.in_memory()
    with pytest.raises(TypeError):
        pgq.entrypoint("probe")(coroutine)
    pgq.entrypoint("probe")(plain)
    assert pgq.registry.names() == ("probe",)
