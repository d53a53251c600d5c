"""Types that tasks take as arguments, of every kind that the tests try."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Generic, NamedTuple, TypedDict, TypeVar
from uuid import UUID

import attrs
import msgspec
import pydantic

T = TypeVar("T")


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Word(str, enum.Enum):
    YES = "yes"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: int
    at: date = date(2031, 5, 17)


class Address(TypedDict, total=False):
    street: str
    since: date


@dataclass
class Line:
    article: str
    price: Decimal
    tags: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Order:
    id: UUID
    lines: list[Line]
    first: Line | None = None
    next: Order | None = None


@dataclass(frozen=True, kw_only=True)
class Priority(Order):
    level: Level = Level.LOW


@dataclass(eq=False)
class Uncomparable:
    at: datetime
    numbers: tuple[int, ...] = ()


@dataclass
class Box(Generic[T]):
    content: T


@dataclass
class Loose:
    content: Any


@attrs.define
class Parcel:
    weight: Decimal
    sent: date | None = None
    parts: list[Parcel] = attrs.field(factory=list)


@attrs.frozen
class Stamp:
    color: Color


class Customer(pydantic.BaseModel):
    name: str
    since: datetime
    balance: Decimal = Decimal()
    colors: set[Color] = set()
    rating: float | None = None


class Strict(pydantic.BaseModel, strict=True, frozen=True):
    day: date
    key: UUID
    aliased: int = pydantic.Field(alias="otherName")


class Open(pydantic.BaseModel, extra="allow"):
    name: str


class Account(msgspec.Struct):
    owner: str
    opened: date


class Deposit(msgspec.Struct, tag=True):
    amount: Decimal


class Withdrawal(msgspec.Struct, tag=True):
    amount: Decimal
