"""The values that Django's tasks take and return: what JSON has a form for, and PostgreSQL keeps. No state."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any


def plain(value: Any, path: str) -> Any:
    """`value` in the types that JSON gives back, as Django does it: a tuple becomes a list, UTF-8 bytes become text.

    Args:
        value: an argument, or what a task has returned.
        path: by which errors name it.

    Raises:
        TypeError: something in it has no form in JSON; the message tells where it is.
        ValueError: it has one that cannot be kept: NaN, infinity, a NUL character, half a surrogate pair; or it is nested too
            deeply.
    """
    try:
        return _plain(value, path)
    except RecursionError:
        raise ValueError(f"{path} is nested too deeply, or contains itself") from None


def payload_of(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """The payload of a job with these arguments.

    Raises:
        TypeError, ValueError: as of `plain`.
    """
    listed = [plain(value, f"args[{index}]") for index, value in enumerate(args)]
    named = {_key(name, "kwargs"): plain(value, f"kwargs[{name!r}]") for name, value in kwargs.items()}
    return json.dumps({"args": listed, "kwargs": named}, separators=(",", ":"), allow_nan=False)


def arguments_in(payload: bytes | None) -> tuple[list[Any], dict[str, Any]]:
    """The arguments in the payload of a job.

    Raises:
        ValueError: it was not made by `payload_of`.
    """
    try:
        read = json.loads(payload or b"")
        args, kwargs = read["args"], read["kwargs"]
    except (ValueError, LookupError, TypeError):
        args = kwargs = None
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise ValueError(f"the payload {payload!r:.60} has no arguments of a task of Django")
    return args, kwargs


def _plain(value: Any, path: str) -> Any:
    # Of a subclass, an enumeration say, what JSON would keep.
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(str.__str__(value), path)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{path} is {value!r}, which JSON has no form for")
        return float(value)
    if isinstance(value, bytes):
        return _text(_decoded(value, path), path)
    if isinstance(value, Mapping):
        return {_key(key, path): _plain(part, f"{path}[{key!r}]") for key, part in value.items()}
    if isinstance(value, Sequence):
        return [_plain(part, f"{path}[{index}]") for index, part in enumerate(value)]
    kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    raise TypeError(f"{path} is of type {kind}, which JSON has no form for: {_short(value)}")


def _key(key: Any, path: str) -> str:
    if not isinstance(key, str):
        # JSON would give it back as text, and two keys may become one.
        raise TypeError(f"{path} has the key {_short(key)} of type {type(key).__name__}: in JSON, keys are text")
    return _text(str.__str__(key), f"a key of {path}")


def _text(text: str, path: str) -> str:
    if "\x00" in text:
        raise ValueError(f"{path} contains a NUL character, which PostgreSQL cannot keep: {_short(text)}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{path} has a lone surrogate, which PostgreSQL cannot keep: {_short(text)}") from None
    return text


def _decoded(value: bytes, path: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise ValueError(f"{path} is bytes that are no UTF-8, which JSON has no form for: {_short(value)}") from None


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:60] + "..."
