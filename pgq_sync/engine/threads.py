"""One wrapper for every background thread of the engine: a name, a stop event, and a report when it crashes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

logger = logging.getLogger("pgq_sync.engine")


class BackgroundThread:
    """Runs `target` until it returns.

    Args:
        name: shown in logs and by profilers.
        target: given `stop`, which it must wait on instead of sleeping.
        on_crash: called, in the thread, with what `target` raised.
    """

    def __init__(
        self, name: str, target: Callable[[threading.Event], None], on_crash: Callable[[str, BaseException], None]
    ) -> None:
        self.stopping = threading.Event()
        self._target = target
        self._on_crash = on_crash
        # A daemon: an interpreter that exits without having stopped its worker must not hang on it.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Asks the thread to end; returns at once."""
        self.stopping.set()

    @property
    def is_current(self) -> bool:
        """Whether it is the thread that asks."""
        return self._thread is threading.current_thread()

    def join(self, timeout: float | None = None) -> bool:
        """Waits until the thread has ended; tells whether it has."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._target(self.stopping)
        except BaseException as error:
            logger.exception("the thread %s crashed", self._thread.name)
            self._on_crash(self._thread.name, error)
