"""Which tasks of Django a worker serves: each is an entrypoint of `pgq`, under the path of its function."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from django.utils.module_loading import import_string

from pgq_sync.contrib.django.application import pgq
from pgq_sync.contrib.django.backend.compat import InvalidTask, Task
from pgq_sync.contrib.django.backend.task import entrypoint_options
from pgq_sync.entrypoints.options import EntrypointOptions, complete

_lock = threading.Lock()
_declared: dict[str, Any] = {}  # by path: the task that was made first, of which others are variants


def declare(task: Any, serve: Callable[..., Any]) -> None:
    """Registers the entrypoint of a task, unless it is: for a variant of it, or under another alias.

    Args:
        task: valid as far as Django goes.
        serve: takes a job and its context, and runs the job's task.

    Raises:
        InvalidTask: there is another function under its path, or the same one with other options.
        TypeError, ValueError: an option cannot be used.
    """
    path = task.module_path
    with _lock:
        known = _declared.get(path)
        if known is None:
            options: EntrypointOptions = {**entrypoint_options(task), "store_result": True}
            pgq.entrypoint(path, **options)(serve)
            _declared[path] = task
            return
    if known.func is not task.func:
        raise InvalidTask(f"There is another task {path!r} already, of another function: names must be unique.")
    own = entrypoint_options(task)
    if task.takes_context != known.takes_context or (own and complete(own) != complete(entrypoint_options(known))):
        raise InvalidTask(f"Task {path!r} is declared already, with other options: a task has one retry, timeout and so on.")


def declared(path: str) -> Any:
    """The task whose function has this path, its module being imported if need be; None if there is none."""
    if path not in _declared:
        try:
            found = import_string(path)
        except ImportError:
            return None
        if path not in _declared:
            return found if isinstance(found, Task) else None  # of another backend, as it was declared
    return _declared[path]
