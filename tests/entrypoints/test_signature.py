"""Which callables get the context beside their job, and by which name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Optional, Union

import pytest

from pgq_sync import Context, Job, PgQueuer, Settings

if TYPE_CHECKING:
    import decimal

    import pgq_sync as only_for_type_checkers

JOB = ["Job"]
JOB_AND_CONTEXT = ["Job", "Context"]


def kinds(*arguments: object) -> list[str]:
    return [type(argument).__name__ for argument in arguments if argument is not None]


def result_of(func: Callable[..., Any], **options: Any) -> Any:
    """What `func` returns when a worker runs it."""
    pgq = PgQueuer.in_memory(settings=Settings())
    assert pgq.entrypoint("probe", store_result=True, **options)(func) is func
    pgq.enqueue("probe")
    pgq.drain()
    (record,) = pgq.jobs.find()
    assert record.status == "succeeded", record.errors
    return record.result


def plain(job: Job) -> list[str]:
    return kinds(job)


def annotated(job: Job, context: Context) -> list[str]:
    return kinds(job, context)


def under_another_name(job: Job, surroundings: Context) -> list[str]:
    return kinds(job, surroundings)


def keyword_only(job: Job, *, context: Context) -> list[str]:
    return kinds(job, context)


def after_a_default(job: Job, times: int = 1, *others: str, context: Context) -> list[str]:
    return kinds(job, context) * times


def with_keywords(job: Job, context: Context, **others: Any) -> list[str]:
    return kinds(job, context, *others)


def two_bare(job, context):  # type: ignore[no-untyped-def]
    return kinds(job, context)


def bare_with_default(job, times=None):  # type: ignore[no-untyped-def]
    return kinds(job, times)


def any_arguments(*arguments: Any, **keywords: Any) -> list[str]:
    return kinds(*arguments, *keywords.values())


def imported_for_type_checkers(job: only_for_type_checkers.Job, around: only_for_type_checkers.Context) -> list[str]:
    return kinds(job, around)


def beside_a_name_for_type_checkers(job: Job, price: decimal.Decimal | None = None, *, around: Context) -> list[str]:
    return kinds(job, price, around)


def annotated_with_a_value(job, times=None, around=None):  # type: ignore[no-untyped-def]
    return kinds(job, times, around)


annotated_with_a_value.__annotations__ = {"around": Context}  # as without the future import of this module


class TracedContext(Context):
    """An annotation that is more than a Context."""


def annotated_with_a_subclass(job: Job, times: int | None = None, *, around: TracedContext) -> list[str]:
    return kinds(job, times, around)


def after_a_client(client: str, job: Job, context: Context) -> list[str]:
    assert client == "client"
    return kinds(job, context)


def before_a_client(job: Job, client: str, context: Context) -> list[str]:
    assert client == "client"
    return kinds(job, context)


class Handlers:
    def method(self, job: Job, context: Context) -> list[str]:
        return kinds(job, context)

    def method_without(self, job: Job) -> list[str]:
        return kinds(job)

    @classmethod
    def of_the_class(cls, job: Job, *, context: Context) -> list[str]:
        return kinds(job, context)

    @staticmethod
    def static(job: Job, context: Context) -> list[str]:
        return kinds(job, context)

    def __call__(self, job: Job, context: Context) -> list[str]:
        return kinds(job, context)


@pytest.mark.parametrize(
    "func",
    [
        annotated,
        under_another_name,
        keyword_only,
        after_a_default,
        with_keywords,
        two_bare,
        imported_for_type_checkers,
        beside_a_name_for_type_checkers,
        annotated_with_a_value,
        annotated_with_a_subclass,
        functools.partial(annotated),
        functools.partial(after_a_client, "client"),
        functools.partial(before_a_client, client="client"),
        functools.partial(Handlers().method),
        functools.partial(Handlers()),
        Handlers(),
        Handlers().method,
        Handlers.of_the_class,
        Handlers.static,
        Handlers.__dict__["static"],
        lambda job, context: kinds(job, context),
    ],
)
def test_these_get_the_context(func: Callable[..., Any]) -> None:
    assert result_of(func) == JOB_AND_CONTEXT


@pytest.mark.parametrize(
    "func",
    [
        plain,
        bare_with_default,
        any_arguments,
        functools.partial(plain),
        Handlers().method_without,
        lambda job: kinds(job),
        lambda *arguments: kinds(*arguments),
    ],
)
def test_these_get_the_job_alone(func: Callable[..., Any]) -> None:
    assert result_of(func) == JOB


def test_a_parameter_that_may_also_be_none_gets_the_context() -> None:
    def handler(job: Job, context: Context | None = None) -> list[str]:
        return kinds(job, context)

    assert result_of(handler) == JOB_AND_CONTEXT


def test_arguments_that_cannot_be_named_do_not_break_the_call() -> None:
    def handler(job: Job, *contexts: Context) -> list[str]:
        return kinds(job)

    assert result_of(handler) == JOB


def of_another_type(job: Job, kind: type[Context] = Context) -> list[str]:
    return kinds(job, *([] if kind is Context else [kind]))


def of_another_type_by_name(job: Job, contexts: "dict[str, only_for_type_checkers.Context] | None" = None) -> list[str]:  # noqa: UP037
    return kinds(job, contexts)


def of_another_type_with_a_value(job, contexts=None):  # type: ignore[no-untyped-def]
    return kinds(job, contexts)


of_another_type_with_a_value.__annotations__ = {"contexts": list[Context] | Callable[[Context], None] | None}


@pytest.mark.parametrize("func", [of_another_type, of_another_type_by_name, of_another_type_with_a_value])
def test_a_type_that_a_context_merely_occurs_in_is_another_type(func: Callable[..., Any]) -> None:
    assert result_of(func) == JOB


@pytest.mark.parametrize(
    "annotation",
    [
        "only_for_type_checkers.Context | None",
        "None | Missing | only_for_type_checkers.Context",
        "Optional[only_for_type_checkers.Context]",
        "typing.Union[Missing, 'Context', None]",
        "Annotated[Context, Missing]",
        "  Missing.Context",
        Context | None,
        Optional[Context],  # noqa: UP045
        Union[None, int, Context],  # noqa: UP007
        Annotated[Context, "around"],
        Optional["only_for_type_checkers.Context"],
    ],
)
def test_a_union_that_a_context_is_in_gets_it(annotation: Any) -> None:
    def handler(job, times=None, around=None):  # type: ignore[no-untyped-def]
        return kinds(job, times, around)

    handler.__annotations__ = {"around": annotation}
    assert result_of(handler) == JOB_AND_CONTEXT


@pytest.mark.parametrize(
    "annotation",
    ["type[Missing.Context]", "Missing[Context]", "dict[str, Context] | Missing", "MissingContext", "not an annotation (", "'"],
)
def test_a_text_that_merely_contains_the_word_names_another_type(annotation: str) -> None:
    def handler(job, contexts=None):  # type: ignore[no-untyped-def]
        return kinds(job, contexts)

    handler.__annotations__ = {"contexts": annotation}
    assert result_of(handler) == JOB


def test_accepts_context_makes_an_optional_parameter_the_one() -> None:
    assert result_of(bare_with_default) == JOB
    assert result_of(bare_with_default, accepts_context=True) == JOB_AND_CONTEXT


def test_accepts_context_withholds_it_from_an_annotated_parameter() -> None:
    def handler(job: Job, context: Context = None) -> list[str]:  # type: ignore[assignment]
        return kinds(job, context)

    assert result_of(handler) == JOB_AND_CONTEXT
    assert result_of(handler, accepts_context=False) == JOB


def test_the_context_is_that_of_the_job() -> None:
    seen: list[bool] = []
    pgq = PgQueuer.in_memory(settings=Settings())

    @pgq.entrypoint("probe")
    def handler(job: Job, context: Context) -> None:
        seen.append(context.job is job and context.resources is pgq.resources)

    pgq.enqueue("probe")
    pgq.drain()
    assert seen == [True]


def test_a_registered_function_is_still_called_like_any_other() -> None:
    pgq = PgQueuer.in_memory(settings=Settings())

    @pgq.entrypoint("double")
    def double(job: Any) -> int:
        return 2 * int(job)

    assert double(4) == 8
    assert double.__name__ == "double"
