"""What tasks carry: every kind of argument comes back as it was, by its annotation, and results are stored as JSON."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any, Literal, NewType, Union
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pytest
from typing_extensions import Unpack

from pgq_sync import PgQueuer, Settings
from tests.entrypoints.models import (
    Account,
    Address,
    Box,
    Color,
    Customer,
    Deposit,
    Level,
    Line,
    Loose,
    Open,
    Order,
    Parcel,
    Point,
    Priority,
    Rights,
    Stamp,
    Strict,
    Uncomparable,
    Withdrawal,
    Word,
)
from tests.entrypoints.support import record_of

BERLIN = ZoneInfo("Europe/Berlin")
NOON = datetime(2031, 5, 17, 12, 0, 0, 123456)  # noqa: DTZ001
KEY = UUID("12345678-1234-5678-1234-567812345678")
LINE = Line("screw", Decimal("0.10"), {"steel", "small"})
ORDER = Order(KEY, [LINE, LINE], LINE, Order(KEY, []))
CUSTOMER = Customer(name="Ada", since=NOON.replace(tzinfo=timezone.utc), balance=Decimal("1.50"), colors={Color.RED})
OrderId = NewType("OrderId", int)

COME_BACK: list[tuple[Any, Any]] = [
    (7, int),
    (-(2**63), int),
    (2**64, int),
    (10**400, int),
    (1.5, float),
    (3, float),
    (5e-324, float),
    (1.7976931348623157e308, float),
    (True, bool),
    (None, None),
    ("", str),
    ("nul \x00 😀  null", str),
    (b"\x00\xff", bytes),
    (bytearray(b"\x00\xff"), bytearray),
    (NOON, datetime),
    (datetime.max, datetime),  # noqa: DTZ901
    (NOON.replace(tzinfo=timezone.utc), datetime),
    (NOON.replace(tzinfo=timezone(timedelta(hours=-9, minutes=-30))), datetime),
    (datetime(2031, 10, 26, 2, 30, tzinfo=BERLIN, fold=0), datetime),
    (datetime(2031, 10, 26, 2, 30, tzinfo=BERLIN, fold=1), datetime),
    (date(2031, 5, 17), date),
    (time(23, 59, 59, 999999), time),
    (time(12, tzinfo=timezone.utc), time),
    (timedelta(days=-3, microseconds=5), timedelta),
    (timedelta.max, timedelta),
    (Decimal("1.10"), Decimal),
    (Decimal("1E+50"), Decimal),
    (KEY, UUID),
    ({1, 2}, set[int]),
    (frozenset({KEY}), frozenset[UUID]),
    ({(1, "a"), (2, "b")}, set[tuple[int, str]]),
    ((1, NOON), tuple[int, datetime]),
    ((1, 2, 3), tuple[int, ...]),
    ((1, 2), Sequence[int]),
    ([1, 2], Sequence[int]),
    ({"a": NOON}, Mapping[str, datetime]),
    ({1, 2}, AbstractSet[int]),
    ({3: "c", 1: "a"}, dict[int, str]),
    ({date(2031, 5, 17): [None, 1]}, dict[date, list[int | None]]),
    ({KEY: {Color.RED: {Level.LOW}}}, dict[UUID, dict[Color, set[Level]]]),
    (Color.RED, Color),
    (Level.HIGH, Level),
    (Word.YES, Word),
    (Rights.READ | Rights.WRITE, Rights),
    ("a", Literal["a", "b"]),
    (2, Literal["a", 2]),
    (5, OrderId),
    (5, Annotated[int, msgspec.Meta(gt=3)]),
    (Point(1), Point),
    ([Point(1, date(2032, 1, 1))], list[Point]),
    ({"since": date(2031, 5, 17)}, Address),
    (LINE, Line),
    (ORDER, Order),
    ([ORDER, None], list[Order | None]),
    (Priority(KEY, [], level=Level.HIGH), Priority),
    (Box(NOON), Box[datetime]),
    (Loose({"a": [1, None]}), Loose),
    (Parcel(Decimal("1.0"), date(2031, 5, 17), [Parcel(Decimal(2))]), Parcel),
    ({"a": Stamp(Color.BLUE)}, dict[str, Stamp]),
    (CUSTOMER, Customer),
    (None, Customer | None),
    ({"a": [CUSTOMER]}, dict[str, list[Customer]]),
    (Box(CUSTOMER), Box[Customer]),
    (Strict(day=date(2031, 5, 17), key=KEY, otherName=3), Strict),
    (Open(name="Ada", born=1815), Open),  # type: ignore[call-arg]
    (Account("Ada", date(2031, 5, 17)), Account),
    (Withdrawal(Decimal("3.5")), Deposit | Withdrawal),
    ("a", str | int | None),
    (3, Union[str, int, None]),  # noqa: UP007
    (1.0, int | float),
    ([1, "a", None, {"a": 1.5}], list),
    ({"a": [1, {"b": None}]}, dict[str, Any]),
    ({"a": [1, {"b": None}]}, Any),
    ({"a": [1, {"b": None}]}, object),
]

UNEQUAL: list[tuple[Any, Any]] = [
    (Uncomparable(NOON, (1, 2)), Uncomparable),
    ({"a": Box(Uncomparable(NOON))}, dict[str, Box[Uncomparable]]),
]


def taking(annotation: Any, took: list[Any]) -> Callable[[Any], None]:
    """A function whose parameter is annotated like this, and that keeps what it is given."""

    def take(value: Any) -> None:
        took.append(value)

    take.__annotations__ = {"value": annotation}
    return take


def carried(pgq: PgQueuer, annotation: Any, value: Any) -> Any:
    """What becomes of `value` on the way through a job."""
    took: list[Any] = []
    pgq.task("take")(taking(annotation, took)).enqueue(value)
    assert pgq.drain().counts == {"succeeded": 1}
    return took[0]


@pytest.fixture
def application() -> PgQueuer:
    return PgQueuer.in_memory(settings=Settings())


@pytest.mark.parametrize(("value", "annotation"), COME_BACK, ids=[str(annotation) for _, annotation in COME_BACK])
def test_an_argument_comes_back_as_it_was(application: PgQueuer, value: Any, annotation: Any) -> None:
    came = carried(application, annotation, value)

    if isinstance(value, datetime):
        assert (came.utcoffset(), came.replace(tzinfo=None)) == (value.utcoffset(), value.replace(tzinfo=None, fold=0))
    elif annotation == Sequence[int]:
        assert came == [1, 2]
    else:
        assert came == value
        assert type(came) is type(value) or annotation is float


def test_all_of_them_come_back_from_postgresql(pgq: PgQueuer) -> None:
    took: list[list[Any]] = [[] for _ in COME_BACK]
    for number, (value, annotation) in enumerate(COME_BACK):
        pgq.task(str(number))(taking(annotation, took[number])).enqueue(value)
    assert pgq.drain().counts == {"succeeded": len(COME_BACK)}

    in_memory = PgQueuer.in_memory(settings=Settings())
    for number, (value, annotation) in enumerate(COME_BACK):
        in_memory.task(str(number))(taking(annotation, took[number])).enqueue(value)
    in_memory.drain()
    assert all(from_postgresql == from_memory for from_postgresql, from_memory in took)


@pytest.mark.parametrize(("value", "annotation"), UNEQUAL)
def test_a_value_that_equals_nothing_but_itself_comes_back_too(application: PgQueuer, value: Any, annotation: Any) -> None:
    came = carried(application, annotation, value)
    assert (type(came), repr(came).partition(" at ")[0]) == (type(value), repr(value).partition(" at ")[0])


def test_dicts_keep_their_order(application: PgQueuer) -> None:
    assert list(carried(application, dict[str, int], {"b": 1, "a": 2, "c": 0})) == ["b", "a", "c"]


def test_keywords_may_have_a_type_each(either: PgQueuer) -> None:
    took: list[Address] = []

    @either.task("take")
    def take(number: int, **address: Unpack[Address]) -> None:
        took.append(address)

    take.enqueue(1, street="a", since=date(2031, 5, 17))
    take.enqueue(2)
    with pytest.raises(
        TypeError, match=r"argument address\.since: Expected `str`, got `int`|argument address\.since: Expected `date`"
    ):
        take.enqueue(3, since=7)  # type: ignore[arg-type]
    assert either.drain(concurrency=1).counts == {"succeeded": 2}
    assert took == [{"street": "a", "since": date(2031, 5, 17)}, {}]


def test_models_are_known_by_their_looks_and_nobody_imports_them() -> None:
    code = "import sys, pgq_sync; sys.exit(not {'pydantic', 'attr', 'attrs'}.isdisjoint(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_model_that_the_payload_does_not_fit_any_more_says_why(either: PgQueuer) -> None:
    @either.task("greet")
    def greet(customer: Customer) -> None:
        raise AssertionError("it should not have been called")

    job_id = either.enqueue("greet", '{"customer": {"name": 7}}')
    assert either.drain().counts == {"failed": 1}
    (error,) = record_of(either, job_id).errors
    assert "customer" in error["message"]
    assert "Input should be a valid string" in error["message"]


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (LINE, {"article": "screw", "price": "0.10", "tags": ["steel", "small"]}),
        ([Stamp(Color.BLUE)], [{"color": "blue"}]),
        (Box(Account("Ada", date(2031, 5, 17))), {"content": {"owner": "Ada", "opened": "2031-05-17"}}),
        (Strict(day=date(2031, 5, 17), key=KEY, otherName=3), {"day": "2031-05-17", "key": str(KEY), "otherName": 3}),
        ({"since": NOON, "for": timedelta(seconds=90)}, {"since": "2031-05-17T12:00:00.123456", "for": "PT90S"}),
        (b"\x00\xff", "AP8="),
        (1.7976931348623157e308, 1.7976931348623157e308),
        ("null", "null"),
        ([None, "null"], [None, "null"]),
    ],
)
def test_a_result_of_any_kind_is_stored_as_json(either: PgQueuer, value: Any, stored: Any) -> None:
    @either.task("give")
    def give() -> Any:
        return value

    job_id = give.enqueue()
    either.drain()
    result = record_of(either, job_id).result
    if isinstance(value, Line):
        result["tags"].sort(reverse=True)
    assert result == stored


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (math.nan, "of type float, is no JSON to be stored: JSON has no nan"),
        ({"rates": [1.0, math.inf]}, r"of type dict, is no JSON to be stored: rates\[1\]: JSON has no inf"),
        (Box([-math.inf]), r"is no JSON to be stored: content\[0\]: JSON has no -inf"),
        (
            Customer(name="Ada", since=NOON, rating=math.nan),
            "of type tests.entrypoints.models.Customer, is no JSON to be stored: rating: JSON has no nan",
        ),
        ({"a": {"b": 1j}}, r"a\['b'\]: a complex has no form in JSON"),
        ([10**5000], r"\[0\]: Exceeds the limit"),
    ],
)
def test_a_result_that_would_not_come_back_fails_the_attempt_and_names_the_place(
    either: PgQueuer, value: Any, complaint: str
) -> None:
    @either.task("give")
    def give() -> Any:
        return value

    job_id = give.enqueue()
    assert either.drain().counts == {"failed": 1}
    (error,) = record_of(either, job_id).errors
    assert error["type"] == "TypeError"
    assert error["message"].startswith("what entrypoint 'give' returned, ")
    assert re.search(complaint, error["message"])
