"""A task and its arguments, in place of an entrypoint's name and a payload."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from pgq_sync.entrypoints.tasks import AnyTask, as_call
from pgq_sync.errors import ArgumentsError


def payload_of(task: object, arguments: object) -> bytes:
    """The payload of a job of `task` with these arguments, given as one of the calls that its `enqueue_many` takes.

    Raises:
        TypeError: it is no task, they are no tuple, or the task does not take them.
    """
    if not isinstance(task, AnyTask):
        raise TypeError(f"arguments={arguments!r} are those of a task, and {task!r} is none: give it a payload")
    if not isinstance(arguments, tuple):
        raise TypeError(f"arguments={arguments!r}: a tuple is accepted, as in (7,) or ((8,), {{'copy': True}})")
    positional, named = as_call(arguments)
    return task.payload(*positional, **named)


def same_call(task: object, arguments: object) -> SameCall:
    """What equals the payload of each job of `task` with these arguments; taken and refused as by `payload_of`."""
    payload = payload_of(task, arguments)
    return SameCall(cast("AnyTask[..., Any]", task), payload)


class SameCall:
    """Compares equal to every payload for which the task's function is called alike, whether defaults were given or not."""

    def __init__(self, task: AnyTask[..., Any], payload: bytes) -> None:
        self._task = task
        self._payload = payload

    def __repr__(self) -> str:
        return repr(self._payload)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, bytes) and self._called(other) == self._called(self._payload)

    __hash__ = None  # type: ignore[assignment]  # it equals payloads that are not equal

    def _called(self, payload: bytes) -> Mapping[str, Any] | bytes:
        try:
            return self._task.arguments(payload)
        except ArgumentsError:
            return payload  # of an earlier version of the function
