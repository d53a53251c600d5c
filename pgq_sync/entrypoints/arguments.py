"""Typed arguments: bound to a function's parameters, written as one JSON object by their names, and read again.

Whatever would not come back as it was given is refused where it is enqueued.
"""

from __future__ import annotations

import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from pgq_sync.entrypoints.json_values import decoder, difference, is_model, to_json
from pgq_sync.entrypoints.signature import describe
from pgq_sync.errors import ArgumentsError
from pgq_sync.storage.intake import closest

_EMPTY = inspect.Parameter.empty
_UNRESOLVED = (NameError, AttributeError)  # the latter for a module that is being imported
_PLACED = re.compile(r"(.*) - at (`key` in )?`\$\.?(.*)`", re.DOTALL)
_STEP = re.compile(r"(\w+)|\[(\d+)\]|(\[\.\.\.\])")


class Arguments:
    """The arguments of one task.

    Args:
        task: its name, for errors.
        func: the function.
        parameters: those that a job's arguments are for.

    Raises:
        TypeError: JSON cannot express what a parameter's annotation allows.
    """

    def __init__(self, task: str, func: Callable[..., Any], parameters: list[inspect.Parameter]) -> None:
        self._task = task
        self._func = func
        self._signature = inspect.Signature(parameters)
        self._open: frozenset[str] = frozenset()  # whose annotation leaves open which sequence, set or mapping it takes
        self._made: tuple[Mapping[str, Any], msgspec.json.Decoder[Any]] | None = None
        try:
            self._made = self._make()
        except _UNRESOLVED:
            pass  # what is defined further down is known at the first use

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters."""
        return tuple(self._signature.parameters)

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> inspect.BoundArguments:
        """The arguments of a call by the names of their parameters.

        Raises:
            TypeError: the function cannot be called like this.
        """
        try:
            return self._signature.bind(*args, **kwargs)
        except TypeError as error:
            unknown = next((name for name in kwargs if name not in self.names), None)
            hint = f"; {closest(unknown, self.names)}" if unknown and "unexpected" in str(error) else ""
            raise TypeError(f"task {self._task!r}: {error}{hint}. It takes {self._signature}") from None

    def payload(self, arguments: Mapping[str, Any]) -> bytes:
        """`arguments` as a job's payload.

        Raises:
            TypeError: one of them has no form in JSON, does not fit its annotation, or would not come back as it is.
        """
        hints, json = self._ready()
        try:
            written = to_json(arguments)
            read = _as_dict(json.decode(written))
        except Exception as error:
            raise TypeError(f"task {self._task!r}: argument {_told(error)}{_given(error, arguments, hints)}") from error
        for name, value in arguments.items():
            if lost := difference(value, read[name], name, any_sequence=name in self._open):
                raise self._lost(name, hints[name], *lost)
        return written

    def read(self, payload: bytes | None) -> inspect.BoundArguments:
        """The arguments that a job was enqueued with; no payload stands for none of them.

        Raises:
            ArgumentsError: they do not fit the function (any more).
        """
        try:
            _, json = self._ready()
            bound = inspect.BoundArguments(self._signature, _as_dict(json.decode(b"{}" if payload is None else payload)))
        except Exception as error:
            raise ArgumentsError(f"the job's arguments do not fit {describe(self._func)}: {_told(error)}") from None
        bound.apply_defaults()
        return bound

    def _ready(self) -> tuple[Mapping[str, Any], msgspec.json.Decoder[Any]]:
        """The annotations, and what reads all arguments at once."""
        if self._made is None:
            try:
                self._made = self._make()
            except _UNRESOLVED as error:
                raise TypeError(
                    f"task {self._task!r}: an annotation cannot be resolved: {error}. What annotates a task's parameters is "
                    "needed at run time: import it outside of TYPE_CHECKING, and define it at the top of a module"
                ) from None
        return self._made

    def _make(self) -> tuple[Mapping[str, Any], msgspec.json.Decoder[Any]]:
        parameters = self._signature.parameters
        hints = _hints(self._func, {name: parameter.annotation for name, parameter in parameters.items()})
        fields: list[Any] = []
        for name, parameter in parameters.items():
            annotation = _of_all(parameter.kind, hints[name])
            self._check_annotation(parameter, annotation)
            fields.append((name, annotation) if _is_required(parameter) else (name, annotation, msgspec.UNSET))
        self._open = frozenset(name for name, hint in hints.items() if _leaves_open(hint, set()))
        # kw_only lets required fields follow others; unknown ones are arguments that the function no longer takes.
        return hints, decoder(msgspec.defstruct("Arguments", fields, kw_only=True, forbid_unknown_fields=True))

    def _check_annotation(self, parameter: inspect.Parameter, annotation: Any) -> None:
        try:
            decoder(annotation)
        except TypeError as error:
            raise TypeError(
                f"task {self._task!r}: parameter {parameter.name} cannot be read from JSON: {error}. "
                "Annotate it with one type that JSON can tell apart, or make it several parameters"
            ) from None
        if _is_required(parameter) and not _is_known(annotation):
            raise TypeError(
                f"task {self._task!r}: parameter {parameter.name} is annotated {_shown(annotation)}, which has no form in "
                "JSON: take a dataclass or a pydantic model, or an id by which the function finds it"
            )

    def _lost(self, name: str, hint: Any, path: str, given: Any, read: Any) -> TypeError:
        advice = f"annotate {name} with its type" if hint in (Any, object) else f"{name} is annotated {_shown(hint)}"
        if isinstance(given, Decimal) and not given.is_finite():
            return TypeError(f"task {self._task!r}: argument {path}: JSON has no {given!r}")
        return TypeError(f"task {self._task!r}: argument {path}: {_short(given)} would come back as {_short(read)}: {advice}")


def _hints(func: Callable[..., Any], annotations: dict[str, Any]) -> dict[str, Any]:
    """`annotations` with the names in them resolved where the function was defined."""

    def bearer() -> None: ...

    bearer.__annotations__ = {name: Any if each is _EMPTY else each for name, each in annotations.items()}
    return typing.get_type_hints(bearer, globalns=_namespace(func), include_extras=True)


def _namespace(func: Any) -> dict[str, Any]:
    while not isinstance(func, types.FunctionType):
        if isinstance(func, functools.partial):
            func = func.func
        elif isinstance(func, (types.MethodType, staticmethod)):
            func = func.__func__
        elif isinstance(func, types.BuiltinFunctionType) or not hasattr(type(func), "__call__"):  # noqa: B004
            return {}
        else:
            func = type(func).__call__
    unwrapped = inspect.unwrap(func)
    return getattr(unwrapped, "__globals__", {})


def _of_all(kind: Any, annotation: Any) -> Any:
    """The annotation of what a parameter's name stands for, which for `*args` and `**kwargs` is all of them."""
    if kind is inspect.Parameter.VAR_POSITIONAL:
        return tuple[annotation, ...]
    if kind is not inspect.Parameter.VAR_KEYWORD:
        return annotation
    unpacked = getattr(typing.get_origin(annotation), "__name__", "") == "Unpack"
    return typing.get_args(annotation)[0] if unpacked else dict[str, annotation]


def _is_required(parameter: inspect.Parameter) -> bool:
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return parameter.default is _EMPTY and parameter.kind not in variable


def _is_known(annotation: Any) -> bool:
    """Whether JSON has a form for `annotation`, as far as its outermost type tells."""
    info = msgspec.inspect.type_info(annotation)
    return not isinstance(info, msgspec.inspect.CustomType) or info.cls is object or is_model(info.cls)


def _as_dict(arguments: Any) -> dict[str, Any]:
    pairs = ((name, getattr(arguments, name)) for name in arguments.__struct_fields__)
    return {name: value for name, value in pairs if value is not msgspec.UNSET}


def _told(error: Exception) -> str:
    """msgspec's message in the words of a call, with the argument's path in front."""
    if placed := _PLACED.fullmatch(str(error)):
        reason, key, path = placed.groups()
        return f"{path}: {'in a key: ' if key else ''}{reason}"
    reason = str(error).replace("Object missing required field", "missing the argument")
    return reason.replace("Object contains unknown field", "there is no parameter")


def _given(error: Exception, arguments: Mapping[str, Any], hints: Mapping[str, Any]) -> str:
    """The value that msgspec complains of as it was before it was JSON, and what was asked for."""
    placed = _PLACED.fullmatch(str(error))
    steps = _STEP.findall(placed[3]) if placed else []
    if not steps or steps[0][0] not in hints:
        return ""
    value: Any = arguments
    try:
        for name, index, other in steps:
            if other:  # msgspec does not tell the key
                break
            value = list(value)[int(index)] if index else _named(value, name)
    except (AttributeError, LookupError, TypeError):
        return ""
    name = steps[0][0]
    return f": {_short(value)} ({type(value).__name__}) is given, and {name} is annotated {_shown(hints[name])}"


def _named(value: Any, name: str) -> Any:
    return value[name] if isinstance(value, Mapping) else getattr(value, name)


def _leaves_open(annotation: Any, seen: set[Any]) -> bool:
    """Whether somewhere in `annotation`, classes' fields included, stands an abstract collection."""
    origin = typing.get_origin(annotation) or annotation
    if getattr(origin, "__module__", "") == "collections.abc":
        return True
    inner = [each for each in typing.get_args(annotation) if not isinstance(each, (str, bytes, int))]
    if isinstance(origin, type) and origin.__module__ != "builtins" and origin not in seen:
        seen.add(origin)
        inner += _field_hints(origin)
    return any(_leaves_open(each, seen) for each in inner)


def _field_hints(kind: type) -> list[Any]:
    try:
        return list(typing.get_type_hints(kind).values()) if hasattr(kind, "__annotations__") else []
    except (*_UNRESOLVED, TypeError):
        return []


def _shown(annotation: Any) -> str:
    return annotation.__qualname__ if type(annotation) is type else str(annotation)


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:60] + "..."
