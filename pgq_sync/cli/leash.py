"""The leash between a supervisor and each of its children: the child's standard input, whose other end only the supervisor has.

When the supervisor ends, even by SIGKILL, the system closes its end; each child notices, and stops in good order.
A daemon thread of the child waits for that; the supervisor never waits here.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable

from pgq_sync.cli.exits import FAILED

GRACE = 30.0  # seconds over its shutdown_timeout after which a child that was asked to stop is ended


class Holder:
    """The supervisor's end.

    Attributes:
        theirs: the descriptor that becomes the child's standard input; to be closed here once the child has started.
    """

    def __init__(self) -> None:
        # Neither is inherited: a child that held another one's leash would keep it from noticing the end.
        if sys.platform == "win32":
            self.theirs, self._ours = os.pipe()
        else:
            self.theirs, self._ours = (end.detach() for end in socket.socketpair())
            os.set_blocking(self._ours, False)
        self._told: float | None = None
        self._closed = False

    def told(self) -> float | None:
        """The child's shutdown_timeout in seconds, once its worker is made; None before, and always on Windows."""
        if self._told is None and not self._closed:
            try:
                self._told = float(os.read(self._ours, 64))
            except (OSError, ValueError):
                pass  # nothing has come yet; or, on Windows, this is a pipe that goes the other way
        return self._told

    def close(self) -> None:
        """Lets go: a child that still runs stops in good order."""
        if not self._closed:
            self._closed = True
            os.close(self._ours)


class Follower:
    """The child's end: has it stop when the supervisor lets go. Until there is a worker to stop, the process ends at once.

    What the process starts itself finds an empty standard input, and no leash.
    """

    def __init__(self) -> None:
        self._leash = os.dup(0)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        self._stop: Callable[[], object] | None = None
        self._patience = 0.0
        threading.Thread(target=self._wait, name="pgq-leash", daemon=True).start()

    def has_worker(self, stop: Callable[[], object], shutdown_timeout: float) -> None:
        """From now on `stop` is called first. The supervisor is told how many seconds stopping may take."""
        self._patience = shutdown_timeout + GRACE
        self._stop = stop
        try:
            os.write(self._leash, str(shutdown_timeout).encode())
        except OSError:
            pass  # the supervisor has just gone; or, on Windows, this is a pipe that goes the other way

    def _wait(self) -> None:
        try:
            os.read(self._leash, 1)  # the supervisor writes nothing
        except OSError:
            pass  # it went without having read what it was told
        if self._stop is not None:
            self._stop()
            time.sleep(self._patience)  # nobody else is left to end what does not end by itself
        os._exit(FAILED)
