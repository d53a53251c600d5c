"""Reads from a function's signature how a handler is to be called, and refuses what could never run."""

from __future__ import annotations

import ast
import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable
from typing import Any

from pgq_sync.entrypoints.context import Context

if sys.version_info >= (3, 14):
    from annotationlib import Format

    _UNRESOLVED = {"annotation_format": Format.FORWARDREF}
else:
    _UNRESOLVED: dict[str, Any] = {}

_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_ONE_OF = (typing.Union, types.UnionType, typing.Annotated)
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def context_parameter(func: Callable[..., Any], accepts_context: bool | None, context_type: type = Context) -> str | None:
    """By which name `func` wants its context, or None if it wants none.

    Args:
        func: a function, method, partial or callable object.
        accepts_context: True and False override what the annotations say.
        context_type: the annotation to look for.

    Raises:
        TypeError: `func` cannot be called with a job, or not with a job and a context.
    """
    refuse_async(func)
    parameters = _parameters(func)
    if parameters is None:
        return None
    others = parameters[1:] if parameters and parameters[0].kind in (*_POSITIONAL, inspect.Parameter.VAR_POSITIONAL) else None
    if others is None:
        raise TypeError(f"{describe(func)} takes no positional argument: it is called with the job")
    chosen = None if accepts_context is False else _chosen(others, context_type, forced=accepts_context is True)
    required = [each.name for each in others if each is not chosen and _is_required(each)]
    if required:
        raise TypeError(
            f"{describe(func)} needs {', '.join(required)} too: it is called with a job, and a context if it wants one"
        )
    if accepts_context is True and chosen is None:
        raise TypeError(f"{describe(func)} has no parameter that could take the context, but accepts_context=True")
    if chosen is not None and chosen.kind is inspect.Parameter.POSITIONAL_ONLY:
        raise TypeError(f"{describe(func)}: the context is passed by name, but {chosen.name} is positional-only")
    return chosen.name if chosen is not None else None


def refuse_other_subject(func: Callable[..., Any]) -> None:
    """Raises TypeError where the first parameter of `func`, which gets the job or the tick, is annotated as what that never is.

    These are Python's own types, and the context. Of other classes nobody knows what stands in for them.
    """
    first = next(iter(_parameters(func) or ()), None)
    if first is None:
        return
    kind = typing.get_origin(first.annotation) or first.annotation
    if isinstance(kind, type) and ((kind.__module__ == "builtins" and kind is not object) or issubclass(kind, Context)):
        raise TypeError(
            f"{describe(func)}: {first.name} is annotated {kind.__qualname__}, but a handler is called with its job (or a "
            "schedule's tick), and then a context if it wants one. For arguments of your own there is @pgq.task"
        )


def refuse_async(func: Callable[..., Any]) -> None:
    """Raises TypeError where calling `func` would only make a coroutine or a generator, and run nothing."""
    inner = func
    while isinstance(inner, (functools.partial, staticmethod)):
        inner = inner.func if isinstance(inner, functools.partial) else inner.__func__
    called = inner if inspect.isroutine(inner) else getattr(inner, "__call__", inner)  # noqa: B004  the method itself is wanted
    if inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called):
        raise TypeError(
            f"{describe(func)} is async: handlers run in threads. Make it a plain function, "
            "or call it from one: def handler(job): asyncio.run(func(job))"
        )
    if inspect.isgeneratorfunction(called):
        raise TypeError(f"{describe(func)} is a generator: calling it would run nothing. Make it a plain function")


def describe(func: Callable[..., Any]) -> str:
    """How errors name a function."""
    return str(getattr(func, "__qualname__", None) or repr(func))


def _parameters(func: Callable[..., Any]) -> list[inspect.Parameter] | None:
    try:
        return parameters_of(func)
    except ValueError:
        return None  # some built-in functions do not tell


def parameters_of(func: Callable[..., Any]) -> list[inspect.Parameter]:
    """The parameters of `func`, with their annotations resolved where they all can be.

    Raises:
        ValueError: some built-in functions do not tell.
    """
    try:
        return list(inspect.signature(func, eval_str=True).parameters.values())
    except (NameError, AttributeError, SyntaxError, TypeError):
        # An annotation that exists for type checkers only stays a string, or a ForwardRef.
        return list(inspect.signature(func, **_UNRESOLVED).parameters.values())


def _chosen(others: list[inspect.Parameter], wanted: type, *, forced: bool) -> inspect.Parameter | None:
    """The parameter that gets the context, if any."""
    nameable = [each for each in others if each.kind not in _VARIABLE]
    annotated = next((each for each in nameable if names_type(each.annotation, wanted)), None)
    return annotated or _second(nameable, forced=forced)


def names_type(annotation: Any, wanted: type) -> bool:
    """Whether `annotation` is the type `wanted`, or a union that it is in; what merely contains it is another type."""
    text = getattr(annotation, "__forward_arg__", annotation)
    if isinstance(text, str):
        return _spells_type(text, wanted.__name__)
    if typing.get_origin(annotation) in _ONE_OF:
        return any(names_type(member, wanted) for member in typing.get_args(annotation))
    return isinstance(annotation, type) and issubclass(annotation, wanted)


def _spells_type(text: str, wanted: str) -> bool:
    """`names_type` for an annotation whose names are there for type checkers only."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        return False
    return _is_spelled(tree, wanted)


def _is_spelled(tree: ast.expr, wanted: str) -> bool:
    if isinstance(tree, ast.Constant) and isinstance(tree.value, str):
        return _spells_type(tree.value, wanted)
    if isinstance(tree, ast.BinOp):
        return _is_spelled(tree.left, wanted) or _is_spelled(tree.right, wanted)
    if isinstance(tree, ast.Subscript) and _last_name(tree.value) in ("Optional", "Union", "Annotated"):
        members = tree.slice.elts if isinstance(tree.slice, ast.Tuple) else [tree.slice]
        return any(_is_spelled(member, wanted) for member in members)
    return _last_name(tree) in (wanted, f"Schedule{wanted}")  # another name for it, which schedules use


def _last_name(tree: ast.expr) -> str | None:
    return getattr(tree, "attr", None) or getattr(tree, "id", None)


def _second(others: list[inspect.Parameter], *, forced: bool) -> inspect.Parameter | None:
    """The parameter after the job, if it can only be meant for the context."""
    positional = [each for each in others if each.kind in _POSITIONAL]
    if not positional:
        return None
    bare = _is_required(positional[0]) and positional[0].annotation is inspect.Parameter.empty
    return positional[0] if forced or bare else None


def _is_required(parameter: inspect.Parameter) -> bool:
    return parameter.default is inspect.Parameter.empty and parameter.kind not in _VARIABLE
