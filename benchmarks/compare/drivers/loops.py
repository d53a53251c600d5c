"""How a synchronous scenario uses an asyncio library: an event loop that runs one coroutine after the other."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


class Loop:
    """Of one thread.

    Args:
        loop: a new event loop, which is closed by `close`.
    """

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(coroutine)

    @contextmanager
    def within(self, manager: AbstractAsyncContextManager[T]) -> Iterator[T]:
        """An asynchronous context manager as a synchronous one."""
        entered = self._loop.run_until_complete(manager.__aenter__())
        try:
            yield entered
        except BaseException as error:
            if not self._loop.run_until_complete(manager.__aexit__(type(error), error, error.__traceback__)):
                raise
        else:
            self._loop.run_until_complete(manager.__aexit__(None, None, None))

    def close(self) -> None:
        self._loop.close()
