"""Values as JSON, for arguments and results: msgspec writes and reads it, pydantic where a model asks for it. No state."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from datetime import datetime, time
from decimal import Decimal
from typing import Any

import msgspec


def to_json(value: Any) -> bytes:
    """`value` as JSON in UTF-8.

    Raises:
        TypeError: something in it has no form in JSON; the message tells where it is, and why.
    """
    try:
        written = _encoder.encode(value)
    except Exception as error:
        raise TypeError(_blame(value, error)) from error
    # msgspec writes NaN and infinity as null: only where that occurs need the value be searched for them.
    if b"null" in written:
        for path, leaf in _leaves(value):
            if isinstance(leaf, float) and not math.isfinite(leaf):
                raise TypeError(_at(path, f"JSON has no {leaf!r}"))
    return written


def decoder(annotation: Any) -> msgspec.json.Decoder[Any]:
    """Reads JSON as values of `annotation`.

    Raises:
        TypeError: JSON cannot tell what it allows apart.
        NameError: it refers to what does not exist (yet).
    """
    return msgspec.json.Decoder(annotation, dec_hook=_read_by_pydantic)


def is_model(kind: Any) -> bool:
    """Whether `kind` is a pydantic model. Told by its looks: pydantic is imported by those who use it."""
    return isinstance(kind, type) and hasattr(kind, "__pydantic_validator__") and hasattr(kind, "model_validate_json")


def equal(given: Any, read: Any) -> bool:
    """Whether the two are equal; what cannot even be compared is not."""
    try:
        return bool(given == read)
    except Exception:
        return False


def comes_back(given: Any, read: Any) -> bool:
    """Whether `read`, of the type that was asked for, is what `given` was, although not all types know when they are equal."""
    if equal(given, read):
        return True
    if isinstance(given, (list, tuple)) and isinstance(read, (list, tuple)):
        return len(given) == len(read) and all(map(comes_back, given, read))
    if isinstance(given, dict) and isinstance(read, dict):
        return given.keys() == read.keys() and all(comes_back(part, read[key]) for key, part in given.items())
    if type(given) is not type(read):
        return False
    if isinstance(given, Decimal):
        return str(given) == str(read)  # NaN, which equals nothing
    if isinstance(given, (datetime, time)):
        # In an hour that the clocks repeat, no time equals one of another time zone.
        return bool(given.utcoffset() == read.utcoffset() and given.replace(tzinfo=None) == read.replace(tzinfo=None))
    fields = _fields(given)
    return fields is not None and comes_back(fields, _fields(read))


def _write_by_pydantic(value: Any) -> Any:
    if is_model(type(value)):
        return value.model_dump(mode="json", by_alias=True, round_trip=True)
    raise TypeError(f"a {_named(type(value))} has no form in JSON")


def _read_by_pydantic(kind: Any, value: Any) -> Any:
    if kind is object:
        return value
    if is_model(kind):
        # From JSON, and not from objects: strict models take text for a date in that alone.
        return kind.model_validate_json(msgspec.json.encode(value))
    raise TypeError(f"a {_named(kind)} has no form in JSON")


def _named(kind: Any) -> str:
    return f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")


_encoder = msgspec.json.Encoder(enc_hook=_write_by_pydantic)


def _blame(value: Any, error: Exception) -> str:
    """What in `value` could not be written, and why: its innermost part that cannot."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply, or contains itself"
    blamed, reason = "", str(error)
    inside = _inside(value, "")
    while inside:
        path, part = inside.pop(0)
        if problem := _problem(part):
            blamed, reason = path, problem
            inside = _inside(part, path)
    return _at(blamed, reason)


def _problem(value: Any) -> str | None:
    try:
        _encoder.encode(value)
    except Exception as error:
        return str(error)
    return None


def _at(path: str, reason: str) -> str:
    return f"{path}: {reason}" if path else reason


def _leaves(value: Any) -> Iterator[tuple[str, Any]]:
    """What `value` consists of in the end, each with the path to it. By a list of its own: values may nest deeply."""
    waiting = [("", value)]
    while waiting:
        path, each = waiting.pop()
        inside = _inside(each, path)
        if inside is None:
            yield path, each
        else:
            waiting += reversed(inside)


def _inside(value: Any, path: str) -> list[tuple[str, Any]] | None:
    """The parts of `value` with their paths; None: it has none."""
    if isinstance(value, dict):
        return [(f"{path}[{key!r}]" if path else str(key), part) for key, part in value.items()]
    if isinstance(value, (list, tuple, set, frozenset)):
        return [(f"{path}[{number}]", part) for number, part in enumerate(value)]
    fields = _fields(value)
    return None if fields is None else [(f"{path}.{name}" if path else name, part) for name, part in fields.items()]


def _fields(value: Any) -> dict[str, Any] | None:
    """The fields that `value` consists of; None: it is of no type that has such."""
    kind = type(value)
    if is_model(kind):
        return {name: getattr(value, name, None) for name in kind.model_fields} | (value.model_extra or {})
    names = getattr(kind, "__struct_fields__", None)
    if dataclasses.is_dataclass(kind):
        names = [field.name for field in dataclasses.fields(kind)]
    elif hasattr(kind, "__attrs_attrs__"):
        names = [attribute.name for attribute in kind.__attrs_attrs__]
    return None if names is None else {name: getattr(value, name, None) for name in names}
