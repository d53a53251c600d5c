"""Tasks: functions whose jobs carry typed arguments. The objects that `PgQueuer.task` puts in a function's place."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Generic, Literal, ParamSpec, TypedDict, TypeVar, cast, overload

from pgq_sync.entrypoints.context import Context
from pgq_sync.entrypoints.task_calls import TaskCall
from pgq_sync.models import DedupeUntil, JobId, NewJob
from pgq_sync.storage.intake import refuse_unknown
from pgq_sync.storage.producer import Producer
from pgq_sync.storage.store import OWN

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from typing_extensions import Unpack

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)
Id = TypeVar("Id")

DedupeKey = str | Callable[..., str | None] | None


class JobOptions(TypedDict, total=False):
    """How the jobs of a task are enqueued; `Task.using` documents the options."""

    priority: int
    execute_after: timedelta | datetime | None
    dedupe_key: DedupeKey
    dedupe_until: DedupeUntil
    headers: Mapping[str, Any] | None
    queue: str
    notify: bool
    connection: Any
    context: Context


class AnyTask(Generic[P, R_co]):
    """What a task can do apart from being called. `P` are the parameters that its jobs carry arguments for."""

    def __init__(self, call: TaskCall, on: Callable[[Any], Producer], options: Mapping[str, Any]) -> None:
        # First, since it copies what the function bears: nothing of that may take the place of the task's own.
        functools.update_wrapper(cast(Any, self), call.func)
        self.name = call.name
        self.func: Callable[..., R_co] = call.func
        self._call = call
        self._on = on
        self._options = options
        self._as_declared = self._with({})

    def __repr__(self) -> str:
        return f"<task {self.name!r}>"

    def __reduce__(self) -> str:
        # By its name, as functions are: another process imports it from its module.
        return self.__qualname__

    if TYPE_CHECKING:
        __name__: str
        __qualname__: str
        __wrapped__: Callable[..., R_co]

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> JobId:
        """Enqueues a job that will call the function with these arguments, as `PgQueuer.enqueue` does.

        Returns:
            The job's id; with on_conflict="existing" that of the job that has the dedupe key.

        Raises:
            TypeError: the function cannot be called with them, or one of them has no form in JSON, does not fit its annotation,
                or would not come back as it is.
            Those of `PgQueuer.enqueue`.
        """
        job_id: JobId = self._as_declared.enqueue(*args, **kwargs)
        return job_id

    def enqueue_many(self, calls: Iterable[tuple[Any, ...]]) -> list[JobId]:
        """Enqueues a job for each of many calls, all or none.

        Args:
            calls: for each call a tuple of its positional arguments: `(7,)`; or such a tuple and a dict of the others by name:
                `((7,), {"copy": True})`. What is a tuple followed by a dict, and no more, is always the latter. An
                iterator is consumed in slices.

        Returns:
            The jobs' ids, in the order of the calls.

        Raises:
            TypeError: one of `calls` is no such tuple; the message tells its index.
            Those of `enqueue`.
        """
        return self._as_declared.enqueue_many(calls)

    @overload
    def using(self, *, on_conflict: Literal["raise", "existing"] = ..., **options: Unpack[JobOptions]) -> BoundTask[P, JobId]: ...

    @overload
    def using(self, *, on_conflict: Literal["skip", "replace"], **options: Unpack[JobOptions]) -> BoundTask[P, JobId | None]: ...

    def using(self, **options: Any) -> BoundTask[P, Any]:
        """This task with other options for its jobs than it was declared with; it has `enqueue` and `enqueue_many`.

        Args:
            priority, execute_after, dedupe_until, headers, queue, notify: as in `PgQueuer.enqueue`.
            dedupe_key: a text, or what makes it from the arguments; None: no key.
            on_conflict: as in `PgQueuer.enqueue`; with "skip" and "replace" an id may be None.
            connection: the caller's, whose transaction the jobs join; see `PgQueuer.on`.
            context: the running job's: the jobs join its transaction where its entrypoint is transactional.

        Raises:
            TypeError: there is no such option, both a connection and a context are given, or the latter is none.
        """
        return self._with(options)

    def payload(self, *args: P.args, **kwargs: P.kwargs) -> bytes:
        """The payload of a job with these arguments: for `NewJob`, `context.enqueue` and the like, under the task's name.

        Raises:
            TypeError: as in `enqueue`.
        """
        return self._call.arguments.payload(self._call.arguments.bind(args, kwargs).arguments)

    def arguments(self, payload: bytes | None) -> Mapping[str, Any]:
        """What the function is called with for a job with this payload, by the names of the parameters, defaults included.

        Raises:
            ArgumentsError: that does not fit the function (any more).
        """
        return self._call.arguments.read(payload).arguments

    def _with(self, options: Mapping[str, Any]) -> BoundTask[P, Any]:
        refuse_unknown(options, (*JobOptions.__annotations__, "on_conflict"))
        chosen = {**self._options, **options}
        producer = self._producer(chosen.pop("connection", OWN), chosen.pop("context", OWN))
        return BoundTask(self._call, producer, chosen)

    def _producer(self, connection: Any, context: Any) -> Producer:
        if context is OWN:  # not None, as for a connection: which may be given by mistake
            return self._on(connection)
        if connection is not OWN:
            raise TypeError(f"task {self.name!r}: both connection and context are given: one of them tells where to enqueue")
        if not isinstance(context, Context):
            raise TypeError(f"task {self.name!r}: context={context!r:.60} must be the Context that a handler gets")
        return context.producer


class Task(AnyTask[P, R_co]):
    """A function whose jobs carry its arguments. Calling it calls the function.

    Attributes:
        name: of the entrypoint that its jobs have.
        func: the function, also as `__wrapped__`.
    """

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        return self.func(*args, **kwargs)


class ContextTask(AnyTask[P, R_co]):
    """A task whose function takes the context first: `enqueue` does without it, a plain call gives it."""

    def __call__(self, context: Context, /, *args: P.args, **kwargs: P.kwargs) -> R_co:
        return self.func(context, *args, **kwargs)


class BoundTask(Generic[P, Id]):
    """A task with the options of its jobs: what `AnyTask.using` returns, and documents."""

    def __init__(self, call: TaskCall, producer: Producer, options: Mapping[str, Any]) -> None:
        self._name = call.name
        self._arguments = call.arguments
        self._producer = producer
        self._dedupe_key: DedupeKey = options.get("dedupe_key")
        if callable(self._dedupe_key):
            _check_makes_key(call, self._dedupe_key)
        self._batch = {name: options[name] for name in ("on_conflict", "notify") if name in options}
        self._each = {name: value for name, value in options.items() if name not in ("dedupe_key", *self._batch)}

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Id:
        """Enqueues one job; see `AnyTask.enqueue`."""
        payload, key = self._bound(args, kwargs)
        enqueued: Any = self._producer.enqueue(self._name, payload, dedupe_key=key, **self._each, **self._batch)
        job_id: Id = enqueued
        return job_id

    def enqueue_many(self, calls: Iterable[tuple[Any, ...]]) -> list[Id]:
        """Enqueues many jobs; see `AnyTask.enqueue_many`."""
        if not isinstance(calls, Iterable):
            raise TypeError(f"task {self._name!r}: calls={calls!r} must be an iterable of tuples, not {type(calls).__name__}")
        enqueued: Any = self._producer.enqueue_many(self._jobs(calls), **self._batch)
        ids: list[Id] = enqueued
        return ids

    def _jobs(self, calls: Iterable[Any]) -> Iterator[NewJob]:
        for index, call in enumerate(calls):
            if not isinstance(call, tuple):
                raise TypeError(
                    f"task {self._name!r}: item {index} is {call!r:.60}: a tuple of the arguments is accepted, as in "
                    "[(7,), ((8,), {'copy': True})]"
                )
            try:
                payload, key = self._bound(*as_call(call))
            except TypeError as error:
                raise TypeError(f"item {index}: {error}") from error
            yield NewJob(entrypoint=self._name, payload=payload, dedupe_key=key, **self._each)

    def _bound(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[bytes, str | None]:
        """The payload and the dedupe key of a job with these arguments."""
        bound = self._arguments.bind(args, kwargs)
        payload = self._arguments.payload(bound.arguments)
        if not callable(self._dedupe_key):
            return payload, self._dedupe_key
        bound.apply_defaults()
        return payload, self._dedupe_key(**bound.arguments)


def _check_makes_key(call: TaskCall, function: Callable[..., Any]) -> None:
    """Raises TypeError where `function` could be called with no job's arguments."""
    names = call.arguments.names
    try:
        inspect.signature(function).bind(**dict.fromkeys(names))
    except TypeError as error:
        raise TypeError(
            f"dedupe_key of task {call.name!r} is called with {', '.join(names) or 'nothing'} by name: {error}. "
            "Let it take the others by **_"
        ) from None
    except ValueError:
        return  # some built-in functions do not tell what they take


def as_call(call: tuple[Any, ...]) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """One of the calls that `AnyTask.enqueue_many` takes: its positional arguments, and the others by name."""
    if len(call) == 2 and isinstance(call[0], tuple) and isinstance(call[1], dict):
        return call
    return call, {}
