"""Who a worker is: its row in the fleet's book, and which of the registered entrypoints it serves."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Sequence
from uuid import uuid4

from pgq_sync.entrypoints.registry import Registry
from pgq_sync.errors import ConfigError
from pgq_sync.models import WorkerInfo
from pgq_sync.settings import Settings
from pgq_sync.storage.intake import check_name
from pgq_sync.version import __version__


def identify(
    registry: Registry,
    settings: Settings,
    *,
    name: str | None,
    queues: Sequence[str] | None,
    entrypoints: Sequence[str] | None,
) -> WorkerInfo:
    """A new worker of this process.

    Args:
        registry: what could be served.
        settings: how many jobs it runs at once, and how long it may be silent.
        name: how the fleet calls it; by default host and process id.
        queues, entrypoints: what it serves; None: all.

    Raises:
        ConfigError: nothing is registered, an entrypoint is unknown, or something that cannot be a name is given for one.
    """
    host, pid = socket.gethostname(), os.getpid()
    return WorkerInfo(
        worker_id=uuid4(),
        name=f"{host}:{pid}" if name is None else _name("name", name),
        host=host,
        pid=pid,
        version=__version__,
        queues=None if queues is None else tuple(sorted(set(_names("queues", queues)))),
        entrypoints=_served(registry, entrypoints),
        slots=settings.concurrency,
        liveness_limit=settings.liveness_limit,
    )


def refuse_import() -> None:
    """Raises RuntimeError where the script that started a process is being imported by it, and would do all of its work again."""
    # As multiprocessing asks before a process that it starts may start others. Nothing public tells as surely: its
    # parent_process() is None until all is imported, as in any other process, and the module __mp_main__ is there only where
    # a script is imported, not where unpickling imports what starts workers. Should the attribute go, nobody is refused.
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise RuntimeError(
            "a worker is started by a process that only imports the script it was started from: in the script, put what "
            "starts workers under if __name__ == '__main__':"
        )


def _served(registry: Registry, entrypoints: Sequence[str] | None) -> tuple[str, ...]:
    known = registry.names()
    if entrypoints is not None:
        _names("entrypoints", entrypoints)
    unknown = [name for name in entrypoints or () if name not in known]
    if unknown:
        raise ConfigError(f"entrypoints {unknown} are not registered; known: {', '.join(known) or 'none'}")
    if not known:
        raise ConfigError("no entrypoint is registered: decorate a function with @pgq.entrypoint(...) before running a worker")
    return tuple(sorted(set(entrypoints or known)))


def _names(option: str, names: Sequence[str]) -> Sequence[str]:
    if isinstance(names, str) or not names or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{option}={names!r}: a list of names is accepted, or None for all")
    return [_name(option, name) for name in names]


def _name(option: str, name: str) -> str:
    try:
        return check_name(option, name)
    except (TypeError, ValueError) as error:
        raise ConfigError(str(error)) from None
