"""Processes of a scenario's own: the worker under test shares no interpreter with whoever measures it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, Protocol

PATIENCE = 600.0  # seconds for an answer: a scenario that hangs is broken
_GOODBYE = 30.0  # seconds in which a process should end by itself
_spawn = multiprocessing.get_context("spawn")


class Pipe(Protocol):
    """The process's own end of its pipe."""

    def send(self, obj: Any, /) -> None: ...

    def recv(self) -> Any: ...


class Child:
    """The measuring side's end of the pipe to a process."""

    def __init__(self, pipe: Connection[Any, Any], pid: int) -> None:
        self.pid = pid
        self._pipe = pipe

    def tell(self, message: Any) -> None:
        self._pipe.send(message)

    def answer(self) -> Any:
        """What the process says next.

        Raises:
            EOFError: it ended without a word; its own traceback says why.
            TimeoutError: it says nothing.
        """
        if not self._pipe.poll(PATIENCE):
            raise TimeoutError(f"a process of the scenario has not answered within {PATIENCE} s")
        return self._pipe.recv()


@contextmanager
def child(target: Callable[..., None], *arguments: Any) -> Iterator[Child]:
    """Runs `target(pipe, *arguments)` in a new process, which is gone on leaving."""
    ours, theirs = _spawn.Pipe()
    process = _spawn.Process(target=target, args=(theirs, *arguments), daemon=True)
    process.start()
    theirs.close()
    try:
        yield Child(ours, process.pid or 0)
    finally:
        ours.close()
        process.join(_GOODBYE)
        if process.is_alive():
            process.kill()
            process.join()
