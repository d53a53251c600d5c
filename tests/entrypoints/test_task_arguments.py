"""Which arguments are refused where they are enqueued, since they would not come back as they are."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from pgq_sync import (
    PgQueuer,
    Settings,
)
from tests.entrypoints.models import Box, Color, Customer, Level, Line, Loose, Open, Order, Parcel, Priority, Stamp, Strict
from tests.entrypoints.support import annotated, send_receipt

if TYPE_CHECKING:
    from fractions import Fraction

KEY = UUID("12345678-1234-5678-1234-567812345678")
DAY = datetime(2031, 5, 17)  # noqa: DTZ001
ODD_ZONE = timezone(timedelta(seconds=3601))


@pytest.fixture
def application() -> PgQueuer:
    return PgQueuer.in_memory(settings=Settings())


@pytest.mark.parametrize(
    ("args", "kwargs", "complaint"),
    [
        ((), {}, "missing a required argument: 'order_id'"),
        ((1, 2), {}, "too many positional arguments"),
        ((1,), {"order_id": 1}, "multiple values for argument 'order_id'"),
        ((1,), {"copies": 3}, "got an unexpected keyword argument 'copies'; did you mean 'copy'\\?"),
    ],
)
def test_a_call_that_the_function_would_not_take_is_refused(
    either: PgQueuer, args: tuple[Any, ...], kwargs: dict[str, Any], complaint: str
) -> None:
    task: Any = either.task("receipt")(send_receipt)
    for enqueue in (task.enqueue, task.using(priority=1).enqueue, task.payload, lambda *a, **k: task.enqueue_many([(a, k)])):
        with pytest.raises(TypeError, match=f"^(item 0: )?task 'receipt': {complaint}\\. It takes \\(.*order_id.*\\)$"):
            enqueue(*args, **kwargs)
    assert either.jobs.count() == {}


def endless() -> list[Any]:
    itself: list[Any] = []
    itself.append(itself)
    return itself


@pytest.mark.parametrize(
    ("value", "annotation", "complaint"),
    [
        # JSON has no form for it
        (math.nan, float, "value: JSON has no nan"),
        (math.inf, float | None, "value: JSON has no inf"),
        (["null", {"a": [1.0, -math.inf]}], list[Any], r"value\[1\]\['a'\]\[1\]: JSON has no -inf"),
        (Box([math.nan]), Box[list[float]], r"value\.content\[0\]: JSON has no nan"),
        (Customer(name="a", since=DAY, rating=math.nan), Customer, r"value\.rating: JSON has no nan"),
        (Open(name="Ada", rating=math.nan), Open, r"value\.rating: JSON has no nan"),  # type: ignore[call-arg]
        (math.nan, None, "value: JSON has no nan"),
        (1j, None, "value: a complex has no form in JSON"),
        ({"a": {"b": [object()]}}, dict[str, Any], r"value\['a'\]\['b'\]\[0\]: a object has no form in JSON"),
        (Box(send_receipt), Box[Any], r"value\.content: a function has no form in JSON"),
        ("half \ud800", str, "value: .*surrogates not allowed"),
        ({(1, 2): 3}, None, "value: a tuple has no form in JSON"),
        ([10**5000], list[int], r"value\[0\]: Exceeds the limit"),
        (endless(), list, "value: it is nested too deeply, or contains itself"),
        # It does not fit its annotation
        ("seven", int, "value: Expected `int`, got `str`"),
        (7, str, "value: Expected `str`, got `int`"),
        (True, int, "value: Expected `int`, got `bool`"),
        (None, int, "value: Expected `int`, got `null`"),
        ([1, "2"], list[int], r"value\[1\]: Expected `int`, got `str`"),
        (Line("a", "b"), Line, r"value\.price: Invalid decimal string"),  # type: ignore[arg-type]
        ("green", Color, "value: Invalid enum value 'green'"),
        (10**400, float, "value: Number out of range"),
        ({"a": 1}, dict[int, int], "value: in a key: Expected `int`, got `str`"),
        ({(1, 2)}, set[list[int]], "unhashable"),
        (Customer.model_construct(name="a"), Customer, "since\n  Field required"),
        # It would come back as something else
        ("2031-05-17", date, r"value: '2031-05-17' would come back as datetime\.date\(2031, 5, 17\): value is annotated date"),
        ({"article": "a", "price": Decimal(1)}, Line, "would come back as Line"),
        (Priority(KEY, []), Order, r"would come back as Order\("),
        (19.5, Decimal, r"value: 19\.5 would come back as Decimal\('19\.5'\): value is annotated Decimal"),
        ([1.5], list[Decimal], r"value\[0\]: 1\.5 would come back as Decimal"),
        ({1.5}, set[Decimal], "value: 1.5 would come back as Decimal"),
        ({1.5: 1}, dict[Decimal, int], "value: 1.5 would come back as Decimal"),
        (Decimal("NaN"), Decimal, r"value: JSON has no Decimal\('NaN'\)"),
        (Decimal("sNaN"), Decimal, r"value: JSON has no Decimal\('sNaN'\)"),
        ([Decimal("Infinity")], list[Decimal], r"value\[0\]: JSON has no Decimal\('Infinity'\)"),
        ((1, 2), list[int], r"value: \(1, 2\) would come back as \[1, 2\]"),
        ([(1, 2)], list[list[int]], r"value\[0\]: \(1, 2\) would come back as \[1, 2\]"),
        (Order(KEY, (Line("a", Decimal(1)),)), Order, r"value\.lines: \(Line.* would come back as \[Line"),  # type: ignore[arg-type]
        (Line("a", 1.5), Line, r"value\.price: 1\.5 would come back as Decimal"),  # type: ignore[arg-type]
        (Stamp("red"), Stamp, r"value\.color: 'red' would come back as <Color\.RED"),  # type: ignore[arg-type]
        (Level.HIGH, int, "value: <Level.HIGH: 2> would come back as 2"),
        # What is given is told as it is, not as JSON has it
        (date(2031, 5, 17), datetime, r"datetime\.date\(2031, 5, 17\) \(date\) is given, and value is annotated datetime"),
        (1, bool, r"value: Expected `bool`, got `int`: 1 \(int\) is given"),
        (Decimal(1), float, r"Decimal\('1'\) \(Decimal\) is given, and value is annotated float"),
        ({"article": "a"}, Line, r"\{'article': 'a'\} \(dict\) is given, and value is annotated Line"),
        (0.1, Decimal, r"0\.1 would come back as Decimal"),
        (datetime(2031, 5, 17, tzinfo=ODD_ZONE), datetime, "would come back as"),
        (time(12, tzinfo=ODD_ZONE), time, "would come back as"),
        (DAY, str, "would come back as '2031-05-17T00:00:00'"),
        ({"at": DAY}, dict[str, Any], "would come back as"),
        (Loose(DAY), Loose, "would come back as"),
        (Loose((1, 2)), list[Any], "value: Expected `array`, got `object`"),
        (Parcel({1: 2}), Parcel, r"value\.weight: Expected `decimal`, got `object`"),  # type: ignore[arg-type]
        ({1, 2}, list[int], "would come back as"),
        (DAY, None, "value: .* would come back as '2031-05-17T00:00:00': annotate value with its type"),
        (Decimal(1), Any, "annotate value with its type"),
        ((1, 2), None, r"\(1, 2\) would come back as \[1, 2\]: annotate value with its type"),
        ({1: 2}, object, "annotate value with its type"),
        (b"a", None, "annotate value with its type"),
        (Color.RED, None, "annotate value with its type"),
        (Strict(day=date(2031, 5, 17), key=KEY, otherName=3), None, "annotate value with its type"),
    ],
)
def test_an_argument_that_would_not_come_back_is_refused_and_named(
    application: PgQueuer, value: Any, annotation: Any, complaint: str
) -> None:
    task = application.task("take")(annotated(annotation))
    with pytest.raises(TypeError, match=rf"(?s)^task 'take': argument .*{complaint}"):
        task.enqueue(value)
    with pytest.raises(TypeError, match=rf"(?s)^item 0: task 'take': argument .*{complaint}"):
        task.enqueue_many([(value,)])
    assert application.jobs.count() == {}


def test_of_several_arguments_the_wrong_one_is_named(application: PgQueuer) -> None:
    task = application.task("all")(lambda a, b, *rest, c, **others: None)
    calls: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
        ((1, 1j), {"c": 1}, "b"),
        ((1, 2, 3, 1j), {"c": 1}, r"rest\[1\]"),
        ((1, 2), {"c": math.nan}, "c"),
        ((1, 2), {"c": 1, "d": [1j]}, r"others\['d'\]\[0\]"),
        ((1, 2), {"c": 1, "d": (1,)}, r"others\['d'\]"),
    ]
    for args, kwargs, name in calls:
        with pytest.raises(TypeError, match=f"^task 'all': argument {name}: "):
            task.enqueue(*args, **kwargs)


def test_deeply_nested_arguments_are_searched_for_what_is_no_json(application: PgQueuer) -> None:
    value: Any = math.nan
    for _ in range(300):
        value = [value]
    with pytest.raises(TypeError, match=r"argument value(\[0\]){300}: JSON has no nan"):
        application.task("take")(annotated(None)).enqueue(value)


# Annotations that cannot be resolved (yet)


@pytest.mark.parametrize("annotation", ["Later", "list[Later]", "Later | None"])
def test_what_is_defined_further_down_is_known_at_the_first_use(
    application: PgQueuer, monkeypatch: pytest.MonkeyPatch, annotation: str
) -> None:
    def take(value: Any) -> None: ...

    take.__annotations__ = {"value": annotation}
    task = application.task("take")(take)
    monkeypatch.setitem(globals(), "Later", Box[int])
    task.enqueue([Box(1)] if "list" in annotation else Box(1))
    with pytest.raises(TypeError, match=r"argument value.*: Expected `int`, got `str`"):
        task.enqueue([Box("one")] if "list" in annotation else Box("one"))
    assert application.drain().counts == {"succeeded": 1}


def test_what_exists_for_type_checkers_alone_is_told_at_the_first_use(either: PgQueuer) -> None:
    @either.task("take")
    def take(share: Fraction, count: int = 1) -> None: ...

    with pytest.raises(TypeError, match=r"^task 'take': an annotation cannot be resolved: name 'Fraction' .*TYPE_CHECKING"):
        take.enqueue(1)  # type: ignore[arg-type]
    job_id = either.enqueue("take", '{"share": 1}')
    assert either.drain().counts == {"failed": 1}
    record = either.jobs.get(job_id)
    assert record is not None
    assert "name 'Fraction' is not defined" in record.errors[0]["message"]


def test_what_the_function_returns_may_be_known_to_type_checkers_alone(application: PgQueuer) -> None:
    @application.task("take")
    def take(count: int) -> Fraction | None: ...

    take.enqueue(1)
    assert application.drain().counts == {"succeeded": 1}


def test_a_parameter_that_no_job_sets_may_have_any_type(application: PgQueuer) -> None:
    numbers: Iterator[int] = itertools.count()

    @application.task("take")
    def take(count: int, numbers: complex = 1j) -> None: ...

    take.enqueue(1)
    with pytest.raises(TypeError, match="argument numbers: a complex has no form in JSON"):
        take.enqueue(1, 2j)
    assert next(numbers) == 0


def test_a_payload_of_other_types_points_at_tasks(either: PgQueuer) -> None:
    with pytest.raises(TypeError, match=r"payload=.* must be bytes, str or None, not dict: declare the function with @pgq\.task"):
        either.enqueue("fetch", {"order_id": 7})  # type: ignore[call-overload]
