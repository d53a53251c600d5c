"""Finds the application that `pgq-sync worker module:attribute` names, in every form it may have."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import inspect
import sys
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

from pgq_sync.app import PgQueuer
from pgq_sync.entrypoints.tasks import AnyTask
from pgq_sync.errors import ConfigError


@contextlib.contextmanager
def application(target: str, arguments: Sequence[str]) -> Iterator[PgQueuer]:
    """The PgQueuer that `target` names, entered and left if it comes as a context manager.

    Args:
        target: `module:attribute`, the attribute being a PgQueuer, or a callable that returns one or a context
            manager for one.
        arguments: given to a callable, as one list.

    Raises:
        ConfigError: there is no such module or attribute, or it is nothing of the kind.
    """
    found = _find(target)
    if isinstance(found, AnyTask):  # could be called, and would then be run
        raise ConfigError(f"{target} is a task: a PgQueuer is needed, or a context manager for one")
    if not isinstance(found, PgQueuer) and callable(found):
        found = _call(target, found, list(arguments))
    elif arguments:
        raise ConfigError(f"{target} is not called, and takes no arguments: {' '.join(arguments)}")
    if isinstance(found, PgQueuer):
        yield found
        return
    if not hasattr(found, "__enter__"):
        raise ConfigError(f"{target} gave {_kind(found)}: a PgQueuer is needed, or a context manager for one")
    with found as entered:
        if not isinstance(entered, PgQueuer):
            raise ConfigError(f"the context manager {target} gave {_kind(entered)}: a PgQueuer is needed")
        yield entered


def _find(target: str) -> Any:
    module_name, _, attribute = target.partition(":")
    if not module_name or not attribute or module_name.startswith("."):
        raise ConfigError(f"{target!r} names no application: write module:attribute, as in myapp.jobs:pgq")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # A module that the application itself misses is its own error, to be seen in full.
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise
        hint = _hint_for_a_file(module_name, attribute)
        raise ConfigError(
            f"there is no module {error.name!r}, looked for in {target!r} from the current directory{hint}"
        ) from None
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise ConfigError(f"{module_name} has no attribute {attribute!r}{_hint(sys.modules[module_name], name)}")
        found = getattr(found, name)
    return found


def _hint_for_a_file(name: str, attribute: str) -> str:
    """How to write what was given as a file's path."""
    dotted = name.removesuffix(".py").replace("\\", ".").replace("/", ".")
    return f": write {dotted}:{attribute}" if dotted != name and not dotted.startswith(".") else ""


def _hint(module: ModuleType, name: str) -> str:
    """What the module has instead: its applications, else names like this one."""
    applications = [each for each, value in vars(module).items() if isinstance(value, PgQueuer)]
    close = applications or difflib.get_close_matches(name, vars(module))
    return f"; it has {', '.join(close)}" if close else ""


def _call(target: str, factory: Any, arguments: list[str]) -> Any:
    if inspect.iscoroutinefunction(factory) or inspect.isasyncgenfunction(inspect.unwrap(factory)):
        raise ConfigError(f"{target} is async: a plain callable is needed")
    try:
        parameters = inspect.signature(factory).parameters.values()
    except ValueError:  # some built-in callables do not tell
        return factory(arguments) if arguments else factory()
    if arguments and not parameters:
        raise ConfigError(f"{target} takes no arguments, but was given: {' '.join(arguments)}")
    needs = any(
        parameter.default is inspect.Parameter.empty and parameter.kind is not inspect.Parameter.VAR_KEYWORD
        for parameter in parameters
    )
    return factory(arguments) if arguments or needs else factory()


def _kind(found: Any) -> str:
    return f"{type(found).__module__}.{type(found).__qualname__}"
