"""What comes back from a job that ran in another process: what it returned, or what it raised, with its traceback."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pgq_sync.errors import JobControl, RemoteError, RemoteTraceback


@dataclass(frozen=True, slots=True)
class _Returned:
    value: Any


@dataclass(frozen=True, slots=True)
class _Raised:
    """An exception, as far as it can be sent."""

    pickled: bytes | None  # None: it cannot
    told: str  # its type and message
    traceback: str
    cause: _Raised | None  # told of what steers a job: that is what is kept in its errors

    def error(self) -> BaseException:
        """The exception as the worker's process raises it."""
        error = self._itself()
        if not isinstance(error, JobControl):
            error.__cause__ = RemoteTraceback(self.traceback)
        elif self.cause is not None:
            error.__cause__ = self.cause.error()
        else:
            error.__context__ = RemoteTraceback(self.traceback)
        return error

    def _itself(self) -> BaseException:
        if self.pickled is None:
            return RemoteError(self.told)
        try:
            error: BaseException = pickle.loads(self.pickled)  # noqa: S301  from a process of our own
            return error
        except Exception:
            return RemoteError(self.told)  # its class cannot be made here


def answered(call: Callable[[], Any]) -> bytes:
    """Calls, and packs what comes of it, whatever that is."""
    try:
        return _pack(call())
    except BaseException as error:
        return pickle.dumps(_raised(error))


def result(answer: bytes) -> Any:
    """What an answer says.

    Raises:
        Whatever the job raised; RemoteError, where that could not be sent, or the result cannot be read.
    """
    try:
        told = pickle.loads(answer)  # noqa: S301  from a process of our own
    except Exception as error:
        raise RemoteError(f"what the job returned cannot be read here: {type(error).__name__}: {error}") from error
    if isinstance(told, _Returned):
        return told.value
    raise told.error()


def _pack(value: Any) -> bytes:
    try:
        return pickle.dumps(_Returned(value))
    except Exception as error:
        kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
        raise TypeError(f"what the job returned, of type {kind}, cannot be sent back from its process: {error}") from error


def _raised(error: BaseException) -> _Raised:
    cause = error.__cause__ if isinstance(error, JobControl) else None
    return _Raised(_pickled(error), _told(error), _traceback(error), None if cause is None else _raised(cause))


def _pickled(error: BaseException) -> bytes | None:
    """`error`, where what comes out on the other side is of its type again."""
    try:
        pickled = pickle.dumps(error)
        return pickled if type(pickle.loads(pickled)) is type(error) else None  # noqa: S301  just made
    except Exception:
        return None


def _told(error: BaseException) -> str:
    name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    try:
        return f"{name}: {error}"
    except Exception as broken:
        return f"{name} (its message could not be made: {type(broken).__name__})"


def _traceback(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except Exception:
        return "".join(traceback.format_tb(error.__traceback__))
