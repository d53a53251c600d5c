"""One running child of the supervisor. A thread waits for its end and reports it; what an end means is decided elsewhere."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from pgq_sync.cli.leash import Holder
from pgq_sync.settings import described

# Apart from the terminal: its Ctrl-C reaches the supervisor alone, who passes it on, and so counts once.
if sys.platform == "win32":
    _APART: dict[str, Any] = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
else:
    _APART: dict[str, Any] = {"start_new_session": True}

_SHUTDOWN_TIMEOUT: float = described("shutdown_timeout")[1].total_seconds()


class Process:
    """Starts `command`.

    Args:
        command: the program and its arguments; its standard input is a leash.
        on_end: called once, from a thread of its own, with this and the exit code; a negative one is the signal that ended it.

    Raises:
        OSError: the system cannot start it.

    Attributes:
        asked: the monotonic time at which it was asked to stop.
        killed: whether it had to be killed, since it did not.
    """

    def __init__(self, command: Sequence[str], on_end: Callable[[Process, int], None]) -> None:
        self.asked: float | None = None
        self.killed = False
        self.started = time.monotonic()
        self._on_end = on_end
        self._leash = Holder()
        try:
            # The command is this interpreter and the arguments that this process was given itself.
            self._process = subprocess.Popen(command, stdin=self._leash.theirs, **_APART)  # noqa: S603
        except OSError:
            self._leash.close()
            raise
        finally:
            os.close(self._leash.theirs)
        self.pid = self._process.pid
        threading.Thread(target=self._wait, name=f"pgq-child-{self.pid}", daemon=True).start()

    @property
    def ready(self) -> bool:
        """Whether it has come so far as to have a worker. Never known on Windows."""
        return self._leash.told() is not None

    def ask(self) -> None:
        """Asks it to stop, the second time to hurry."""
        if sys.platform != "win32":
            self._process.terminate()
        elif self.asked is None:
            self._leash.close()  # no signal does there what this does: stop it in good order
        else:
            self._process.terminate()
        self.asked = self.asked or time.monotonic()

    def overdue(self, grace: float) -> float:
        """The monotonic time from which on it is too late; inf if it was not asked to stop, or has been killed."""
        if self.asked is None or self.killed:
            return math.inf
        told = self._leash.told()
        return self.asked + (_SHUTDOWN_TIMEOUT if told is None else told) + grace

    def kill(self) -> None:
        """Ends it at once. Its running jobs are rescued by other workers."""
        self.killed = True
        self._process.kill()

    def close(self) -> None:
        """Lets go of what belongs to it, once it has ended."""
        self._leash.close()

    def _wait(self) -> None:
        self._on_end(self, self._process.wait())
