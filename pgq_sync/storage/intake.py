"""The one gate through which every job enters: checks what a caller enqueues and brings it into the form of a row."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, get_args

import msgspec

from pgq_sync.errors import PayloadTooLarge
from pgq_sync.models import DedupeUntil, NewJob, OnConflict

MAX_NAME = 200
_FARTHEST = timedelta(days=365_000)
_YEARS = range(2, 9999)  # a time zone moves no date in these out of what both sides can represent
_SMALLINT = range(-32768, 32768)
_ON_CONFLICT = get_args(OnConflict)
_DEDUPE_UNTIL = get_args(DedupeUntil)


class CheckedJob(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A job that may be enqueued, in plain values."""

    entrypoint: str
    payload: bytes | None
    priority: int
    due_at: datetime | None  # this, or
    delay: float  # in seconds from now, by the store's clock
    dedupe_key: str | None
    dedupe_until: str
    headers: str | None  # JSON
    queue: str


def check(job: NewJob, max_payload: int) -> CheckedJob:
    """`job` in the form of a row.

    Args:
        job: what the caller wants to enqueue.
        max_payload: the largest payload, in bytes.

    Raises:
        TypeError, ValueError: a field cannot be used; the message names it and its value.
        PayloadTooLarge: the payload is larger than `max_payload`.
    """
    due_at, delay = check_due(job.execute_after)
    return CheckedJob(
        entrypoint=check_name("entrypoint", job.entrypoint),
        payload=_payload(job.payload, max_payload),
        priority=check_priority(job.priority),
        due_at=due_at,
        delay=delay,
        dedupe_key=check_dedupe_key(job.dedupe_key),
        dedupe_until=check_dedupe_until(job.dedupe_until),
        headers=_headers(job.headers),
        queue=check_name("queue", job.queue),
    )


def check_on_conflict(on_conflict: str) -> None:
    """Raises ValueError unless `on_conflict` is one of the four modes."""
    if on_conflict not in _ON_CONFLICT:
        raise ValueError(f"on_conflict={on_conflict!r}: 'raise', 'skip', 'existing' or 'replace' is accepted")


def check_name(field: str, name: object) -> str:
    """`name`, which must be text of 1 to 200 characters that PostgreSQL can store.

    Raises:
        TypeError, ValueError: it is not.
    """
    if type(name) is str:
        return _plain_name(field, name)
    if not isinstance(name, str):
        hint = ": give its `.name`, or call a task's `.enqueue`" if isinstance(getattr(name, "name", None), str) else ""
        raise TypeError(f"{field}={name!r} must be a str, not {type(name).__name__}{hint}")
    return _named(field, name)


def _named(field: str, name: str) -> str:
    if not 1 <= len(name) <= MAX_NAME:
        raise ValueError(f"{field}={_short(name)} has {len(name)} characters: 1 to {MAX_NAME} are accepted")
    return _storable(field, name)


# The names of an application are few. Of text alone: what only equals it is not the same to every driver.
_plain_name = lru_cache(maxsize=1_000)(_named)


def check_priority(priority: object) -> int:
    """`priority`, which must be a whole number that fits PostgreSQL's smallint.

    Raises:
        TypeError, ValueError: it is not.
    """
    if not isinstance(priority, int) or isinstance(priority, bool):
        raise TypeError(f"priority={priority!r} must be an int, not {type(priority).__name__}")
    if priority not in _SMALLINT:
        raise ValueError(f"priority={priority} is out of range: -32768 to 32767 are accepted, larger runs first")
    return priority


def _payload(payload: object, max_payload: int) -> bytes | None:
    if payload is None:
        return None
    if isinstance(payload, str):
        payload = _encoded(payload)
    if not isinstance(payload, (bytes, bytearray, memoryview)):
        raise TypeError(
            f"payload={payload!r:.60} must be bytes, str or None, not {type(payload).__name__}: declare the function with "
            "@pgq.task, whose arguments are written as JSON, or serialise it first"
        )
    data = bytes(payload)
    if len(data) > max_payload:
        raise PayloadTooLarge(len(data), max_payload)
    return data


def _encoded(payload: str) -> bytes:
    try:
        return payload.encode()
    except UnicodeEncodeError:
        raise ValueError(f"payload {_short(payload)} has a lone surrogate and cannot be encoded as UTF-8") from None


def check_due(execute_after: object) -> tuple[datetime | None, float]:
    """When a job is due: the time, or the delay in seconds.

    Raises:
        TypeError, ValueError: it cannot be used; the message names it.
    """
    if execute_after is None:
        return None, 0.0
    if isinstance(execute_after, timedelta):
        if execute_after > _FARTHEST:
            raise ValueError(f"execute_after={execute_after} is too far away: at most {_FARTHEST.days} days are accepted")
        return None, max(execute_after.total_seconds(), 0.0)
    if isinstance(execute_after, datetime):
        if execute_after.utcoffset() is None:
            raise ValueError(
                f"execute_after={execute_after.isoformat()} has no time zone: pass an aware datetime "
                "(datetime.now(timezone.utc) + ...) or a timedelta"
            )
        if execute_after.year not in _YEARS:
            raise ValueError(f"execute_after={execute_after.isoformat()}: years 2 to 9998 are accepted")
        return execute_after, 0.0
    raise TypeError(
        f"execute_after={execute_after!r} must be a timedelta or an aware datetime, not {type(execute_after).__name__}"
    )


def check_dedupe_key(key: object) -> str | None:
    if key is None:
        return None
    if not isinstance(key, str):
        raise TypeError(f"dedupe_key={key!r} must be a str, not {type(key).__name__}")
    # A key stands in a B-tree index, whose entries end at 2,704 bytes.
    if not 1 <= len(key.encode(errors="replace")) <= 2000:
        raise ValueError(f"dedupe_key={_short(key)} has {len(key)} characters: 1 to 2,000 bytes are accepted")
    return _storable("dedupe_key", key)


def check_dedupe_until(until: object) -> str:
    if until not in _DEDUPE_UNTIL:
        raise ValueError(f"dedupe_until={until!r}: 'finished' or 'started' is accepted")
    return str(until)


def _headers(headers: object) -> str | None:
    if headers is None:
        return None
    if not isinstance(headers, Mapping):
        raise TypeError(f"headers={headers!r:.60} must be a mapping, not {type(headers).__name__}")
    try:
        text = json.dumps(dict(headers))
    except (TypeError, ValueError) as error:
        raise type(error)(f"headers cannot be written as JSON: {error}") from None
    except RecursionError:
        raise ValueError("headers are nested too deeply to be written as JSON") from None
    for offender in _unstorable(headers):
        raise ValueError(
            f"headers contain {_short(repr(offender))}: a NUL character, a lone surrogate, NaN and infinity "
            "are what PostgreSQL cannot store in JSON"
        )
    return text


def _unstorable(value: Any) -> Iterator[object]:
    """What inside `value` PostgreSQL's jsonb refuses: NUL, lone surrogates, NaN and infinity."""
    if (isinstance(value, str) and ("\x00" in value or not _encodable(value))) or (
        isinstance(value, float) and not math.isfinite(value)
    ):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"headers: the key {key!r} must be a str, not {type(key).__name__}")
            yield from _unstorable(key)
            yield from _unstorable(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _unstorable(item)


def _storable(field: str, text: str) -> str:
    if "\x00" in text:
        raise ValueError(f"{field}={_short(text)} contains a NUL character, which PostgreSQL cannot store")
    if not _encodable(text):
        raise ValueError(f"{field}={_short(text)} has a lone surrogate, which PostgreSQL cannot store")
    return text


def _encodable(text: str) -> bool:
    """Whether UTF-8 can express `text`: it cannot where half of a surrogate pair stands alone."""
    if text.isascii():  # known without a look at the text
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "...")


def refuse_unknown(options: Iterable[str], known: Iterable[str]) -> None:
    """Raises TypeError for the first of `options` that is not `known`."""
    names = list(known)
    for option in options:
        if option not in names:
            raise TypeError(f"there is no option {option!r}; {closest(option, names)}")


def closest(name: str, known: Iterable[str]) -> str:
    """What `name`, which is not `known`, may have been meant for."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names) or 'none'}"
