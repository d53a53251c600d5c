"""How a call gets into another process: its function goes by name, and is looked up there."""

from __future__ import annotations

import functools
import importlib
import inspect
import io
import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pgq_sync.entrypoints.calls import Call
from pgq_sync.entrypoints.signature import describe

# Where the function is in what stands under its name: a task has it as `func`, a decorator's function as `__wrapped__`.
_INSIDE = ("func", "__wrapped__")
_DEEPEST = 20  # decorators, one above the other


@dataclass(frozen=True, slots=True)
class Reference:
    """Where a function is found."""

    module: str
    names: tuple[str, ...]  # from attribute to attribute

    def resolve(self) -> Any:
        """The function, imported if need be."""
        return functools.reduce(getattr, self.names, importlib.import_module(self.module))


def refuse_nameless(func: Callable[..., Any]) -> None:
    """Raises TypeError where `func` cannot be found by its name in another process."""
    names = getattr(func, "__qualname__", "")
    if not inspect.isroutine(func) or inspect.ismethod(func) or not getattr(func, "__module__", None):
        problem = f"is a {type(func).__name__}"
    elif "<lambda>" in names:
        problem = "is a lambda"
    elif "<locals>" in names:
        problem = "is defined inside of another function"
    else:
        return
    raise TypeError(
        f"{describe(func)} {problem}: what runs in another process is found there by its name. "
        "Define it by def, at the top level of a module"
    )


def pack(call: Call) -> bytes:
    """`call` as `unpack` takes it, in another process.

    Raises:
        TypeError: its function is not what stands under its name; or something in it cannot be pickled.
    """
    packed = io.BytesIO()
    try:
        _Pickler(packed, call.func).dump(call)
    except (pickle.PicklingError, AttributeError) as error:
        raise TypeError(f"how {describe(call.func)} is called cannot be told to another process: {error}") from error
    return packed.getvalue()


@functools.lru_cache(maxsize=1024)
def unpack(packed: bytes) -> Call:
    """The call, its function's module imported.

    Raises:
        Whatever the import raises.
    """
    call: Call = _Unpickler(io.BytesIO(packed)).load()
    return call


class _Pickler(pickle.Pickler):
    def __init__(self, packed: io.BytesIO, func: Callable[..., Any]) -> None:
        super().__init__(packed)
        self._func = func

    def persistent_id(self, obj: Any) -> Reference | None:
        return _refer(self._func) if obj is self._func else None


class _Unpickler(pickle.Unpickler):
    def persistent_load(self, pid: Any) -> Any:
        return pid.resolve()


def _refer(func: Callable[..., Any]) -> Reference:
    names = tuple(func.__qualname__.split("."))
    found: Any = sys.modules.get(func.__module__)
    for name in names:
        found = _attribute(found, name)
    for _ in range(_DEEPEST):
        if found is func:
            return Reference(func.__module__, names)
        inside = next((name for name in _INSIDE if _attribute(found, name) is not None), "")
        found, names = _attribute(found, inside), (*names, inside)
    where = f"{func.__module__}.{func.__qualname__}"
    raise TypeError(f"{where} is not the function that was registered under that name: another process would not find it")


def _attribute(found: Any, name: str) -> Any:
    return getattr(found, name, None)
