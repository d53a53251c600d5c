"""Values as JSON, for arguments and results: msgspec writes and reads it, pydantic where a model asks for it. No state."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from datetime import datetime, time
from decimal import Decimal
from typing import Any

import msgspec

_PLAIN = frozenset({int, str, bool, float, bytes, type(None)})  # whose values are told by a look


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


def difference(given: Any, read: Any, path: str, *, any_sequence: bool) -> tuple[str, Any, Any] | None:
    """Where `read` is not exactly what `given` was, types included, and both there; None: nowhere.

    Args:
        given: what was written.
        read: what it was read as.
        path: of the two, for those inside.
        any_sequence: whether a list may stand for a tuple, a set for a frozenset, a dict for its like.
    """
    if type(given) is type(read) and type(given) in _PLAIN:
        return None if given == read else (path, given, read)
    if type(given) is not type(read) and not _stands_for(given, read, any_sequence):
        return path, given, read
    pairs = _pairs(given, read, path)
    if pairs is None:
        return None if _same(given, read) else (path, given, read)
    for inner, one, other in pairs:
        if found := difference(one, other, inner, any_sequence=any_sequence):
            return found
    return None


def _stands_for(given: Any, read: Any, any_sequence: bool) -> bool:
    """Whether a type checker takes one type for the other: an int for a float, and what a parameter's annotation leaves open."""
    if type(read) is float:
        return type(given) is int
    return any_sequence and any(
        isinstance(given, kinds) and type(read) in kinds for kinds in ((list, tuple), (set, frozenset), (dict, Mapping))
    )


def _pairs(given: Any, read: Any, path: str) -> list[tuple[str, Any, Any]] | None:
    """The parts of both with their paths; None: they have none, or not the same ones."""
    if isinstance(given, (set, frozenset)):
        found = {part: part for part in read}
        return [(path, part, found[part]) for part in given] if equal(given, read) else None
    inside, others = _inside(given, path), _inside(read, path)
    if inside is None or others is None or len(inside) != len(others):
        return None
    pairs = [(inner, one, other) for (inner, one), (_, other) in zip(inside, others, strict=True)]
    return pairs if not isinstance(given, Mapping) else [(path, key, back) for key, back in zip(given, read, strict=True)] + pairs


def _same(given: Any, read: Any) -> bool:
    if isinstance(given, Decimal) and not given.is_finite():
        return False  # as little a number to other readers as a float's NaN, which JSON lacks
    if equal(given, read):
        return True
    # In an hour that the clocks repeat, no time equals one of another time zone.
    return isinstance(given, (datetime, time)) and bool(
        given.utcoffset() == read.utcoffset() and given.replace(tzinfo=None) == read.replace(tzinfo=None)
    )


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
        endless = (path for path, part in _inside(value, "") or () if _problem(part) is not None)
        return _at(next(endless, ""), "it is nested too deeply, or contains itself")
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
    if isinstance(value, Mapping):
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
