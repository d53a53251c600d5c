"""What is enqueued, and what should be."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypedDict, overload

from pgq_sync.app import PgQueuer
from pgq_sync.models import JobRecord
from pgq_sync.storage.intake import check_due
from pgq_sync.testing.calls import same_call
from pgq_sync.testing.naming import name_of
from pgq_sync.testing.overriding import where

if TYPE_CHECKING:
    from typing_extensions import Unpack

ANY: Any = ...
"""In place of a value: whatever it is."""

_UNFINISHED = ("queued", "running", "held")
_MOST = 2**31 - 1
_SHOWN = 10  # jobs in a message
_LONGEST = 200  # characters of a value in it
_MOMENT = timedelta(milliseconds=1)


class Wanted(TypedDict, total=False):
    """What a job may be looked for by; `assert_enqueued` documents it. In place of each value, `ANY` is as good as none."""

    payload: Any
    arguments: tuple[Any, ...]
    headers: Mapping[str, Any] | None
    queue: str
    priority: int
    dedupe_key: str | None
    execute_after: timedelta | datetime


_TAKEN = tuple(Wanted.__annotations__)


def enqueued(pgq: PgQueuer, entrypoint: object = None, *, connection: Any = None) -> list[JobRecord]:
    """The unfinished jobs, in the order in which they were enqueued.

    Args:
        pgq: the application.
        entrypoint: only those of this name; an object that has one as `name` will do.
        connection: looks in the transaction that it is in, as `on_connection` says; None: on those of `pgq`.
    """
    name = None if entrypoint is None else name_of(entrypoint)
    with where(pgq, connection):
        found = [job for status in _UNFINISHED for job in pgq.jobs.find(status=status, entrypoint=name, limit=_MOST)]
    return sorted({job.id: job for job in found}.values(), key=lambda job: job.id)


@overload
def assert_enqueued(
    pgq: PgQueuer, entrypoint: object, *, count: None = None, connection: Any = None, **wanted: Unpack[Wanted]
) -> JobRecord: ...


@overload
def assert_enqueued(
    pgq: PgQueuer, entrypoint: object, *, count: int, connection: Any = None, **wanted: Unpack[Wanted]
) -> list[JobRecord]: ...


def assert_enqueued(
    pgq: PgQueuer, entrypoint: object, *, count: int | None = None, connection: Any = None, **wanted: Unpack[Wanted]
) -> JobRecord | list[JobRecord]:
    """Makes sure that a job waits, or runs, or is held, with these values; those that are not given may be any.

    Args:
        pgq: the application.
        entrypoint: its name, or an object that has one as `name`.
        payload: text stands for its bytes in UTF-8. Each value may be anything that compares equal to what it stands for.
        arguments: in place of a payload, where `entrypoint` is a task: a tuple of what its function is to be called with, or
            of such a tuple and a dict of the others by name, as one of the calls of `task.enqueue_many`. Defaults may be
            given or left out.
        headers, queue, priority, dedupe_key: as they were enqueued.
        execute_after: when it is due, as an aware datetime, or as a timedelta from when it was enqueued.
        count: how many such jobs there must be, no more and no less; None: one at least.
        connection: looks in the transaction that it is in, as `on_connection` says; None: on those of `pgq`.

    Returns:
        The first such job; with `count` a list of them.

    Raises:
        AssertionError: there are not so many; the message shows the jobs that there are instead, the closest first.
        TypeError: there is no such argument, or the task does not take `arguments`.
        TypeError, ValueError: `execute_after` is a number, a text, or without a time zone.
    """
    __tracebackhide__ = True
    found, report = _search(pgq, entrypoint, connection, wanted)
    if (not found) if count is None else (len(found) != count):
        expected = "no such job is enqueued" if count is None else f"{_counted(found)} enqueued and not {count}"
        raise AssertionError(f"{expected}:\n{report()}")
    return found[0] if count is None else found


def assert_not_enqueued(pgq: PgQueuer, entrypoint: object, *, connection: Any = None, **wanted: Unpack[Wanted]) -> None:
    """Makes sure that no job with these values waits, runs or is held. Arguments as in `assert_enqueued`.

    Raises:
        AssertionError: there is one; the message shows it.
    """
    __tracebackhide__ = True
    found, report = _search(pgq, entrypoint, connection, wanted)
    if found:
        raise AssertionError(f"{_counted(found)} enqueued:\n{report()}")


def _counted(found: Sequence[JobRecord]) -> str:
    return f"{len(found)} such {'job is' if len(found) == 1 else 'jobs are'}"


def _search(
    pgq: PgQueuer, entrypoint: object, connection: Any, wanted: Mapping[str, Any]
) -> tuple[list[JobRecord], Callable[[], str]]:
    """The jobs that fit, and what tells of those that there are."""
    given = _values(entrypoint, wanted)
    name = name_of(entrypoint)
    jobs = enqueued(pgq, connection=connection)
    found = [job for job in jobs if job.entrypoint == name and not _differing(job, given)]
    return found, lambda: _report(jobs, name, given) + _misspelt(name, {*pgq.registry.names(), *(job.entrypoint for job in jobs)})


def _values(entrypoint: object, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What a job's values are compared with."""
    if unknown := [name for name in wanted if name not in _TAKEN]:
        raise TypeError(f"there is no argument {unknown[0]!r}: {', '.join(_TAKEN)} are accepted")
    given = {name: value for name, value in wanted.items() if value is not ANY}
    if isinstance(due := given.get("execute_after"), (date, int, float, str)):
        check_due(due)
    if isinstance(payload := given.get("payload"), str):
        given["payload"] = payload.encode()
    if "arguments" not in given:
        return given
    if "payload" in given:
        raise TypeError(f"payload={payload!r}: arguments={given['arguments']!r} are given in its place")
    return {"payload": same_call(entrypoint, given.pop("arguments")), **given}


def _due(job: JobRecord, wanted: Any) -> bool:
    if isinstance(wanted, timedelta):
        return abs(job.execute_after - job.created_at - max(wanted, timedelta())) < _MOMENT
    return bool(job.execute_after == wanted)


def _differing(job: JobRecord, given: Mapping[str, Any]) -> list[str]:
    """The names of the values in which a job differs."""
    return [
        name
        for name, value in given.items()
        if not (_due(job, value) if name == "execute_after" else getattr(job, name) == value)
    ]


def _report(jobs: Sequence[JobRecord], entrypoint: str, given: Mapping[str, Any]) -> str:
    wanted = [f"  {entrypoint}", *(f"{name}={_shown(value)}" for name, value in given.items())]
    if not jobs:
        return "wanted:\n" + ", ".join(wanted) + "\nno job is unfinished"
    closest = sorted(jobs, key=lambda job: (job.entrypoint != entrypoint, len(_differing(job, given)), job.id))
    lines = ["wanted:", ", ".join(wanted), "unfinished are, the closest first:"]
    lines += [_line(job, entrypoint, given) for job in closest[:_SHOWN]]
    return "\n".join(lines + ([f"  and {len(jobs) - _SHOWN} more"] if len(jobs) > _SHOWN else []))


def _misspelt(name: str, known: Collection[str]) -> str:
    close = [] if name in known else difflib.get_close_matches(name, sorted(known), n=1)
    return f"\nno entrypoint {name!r} is known; did you mean {close[0]!r}?" if close else ""


def _line(job: JobRecord, entrypoint: str, given: Mapping[str, Any]) -> str:
    differing = _differing(job, given)
    values = [f"{name}={_shown(_value(job, name, given))}" for name in given]
    told = f"  job {job.id}, {job.status}: " + ", ".join([job.entrypoint, *values])
    wrong = ["entrypoint"] * (job.entrypoint != entrypoint) + differing
    return told + (f" (other {', '.join(wrong)})" if wrong else "")


def _value(job: JobRecord, name: str, given: Mapping[str, Any]) -> Any:
    if name == "execute_after" and isinstance(given[name], timedelta):
        return job.execute_after - job.created_at
    return getattr(job, name)


def _shown(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    text = str(value) if isinstance(value, timedelta) else repr(value)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."
