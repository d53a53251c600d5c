"""One process that runs jobs, as the worker sees it. One thread at a time uses it; any thread may kill it."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from typing import cast

from pgq_sync.entrypoints.process.child import GOODBYE, SIGNALS, serve
from pgq_sync.errors import ProcessCrashed

_LAST_WORDS = 1.0  # seconds from the end of a process's pipe to its own
_spawn = multiprocessing.get_context("spawn")
_lock = threading.Lock()  # of starting and reaping: whoever starts a process reaps those that have ended, with their exit codes


class Child:
    """Starts a process.

    Args:
        work: what it does with the jobs that it is given.

    Raises:
        OSError: the system cannot start it.
    """

    def __init__(self, work: bytes) -> None:
        self._connection, theirs = _spawn.Pipe()
        self._process = _spawn.Process(target=serve, args=(theirs, work), name="pgq-process")
        with theirs, _lock, _signals_blocked():
            self._process.start()
            self._pid = cast(int, self._process.pid)
            self._handle = _open_handle(self._pid)
        self._killing = threading.Lock()  # of everything below
        self._job = 0  # the number of the job that it runs
        self._killed = self._gone = False

    @property
    def alive(self) -> bool:
        return not self._killed and not wait([self._end], 0)

    def wait_until_ready(self) -> None:
        """Returns when it has imported what it needs.

        Raises:
            ProcessCrashed: it ended meanwhile.
        """
        self._receive()

    def ask(self, job: bytes) -> bytes:
        """Has it run a job, and returns the answer.

        Raises:
            ProcessCrashed: it ended without one.
        """
        try:
            self._connection.send_bytes(job)
        except OSError:
            pass  # it has ended
        return self._receive()

    def killer(self) -> Callable[[], None]:
        """What kills it as long as it runs its present job, and afterwards does nothing."""
        return functools.partial(self._kill_in, self._job)

    def done(self) -> bool:
        """Its job is over; tells whether it can take another one."""
        with self._killing:
            self._job += 1
            return self.alive

    def kill(self) -> None:
        """Kills it, whatever it does. Somebody else's `end` cleans up."""
        with self._killing:
            if not self._gone:
                self._kill()

    def dismiss(self) -> None:
        """Lets it end by itself."""
        try:
            self._connection.send_bytes(GOODBYE)
        except OSError:
            pass  # it has ended

    def end(self, patience: float = 0) -> int | None:
        """Kills it, with whatever it has started, unless it ends within so many seconds; its exit code, if that is known."""
        if self._gone:
            return None
        wait([self._end], patience)
        with self._killing:
            self._kill()
        wait([self._end])
        with self._killing, _lock:
            self._gone = True
            self._process.join()
            code = self._process.exitcode
            self._process.close()
        self._connection.close()
        if self._handle is not None:
            os.close(self._handle)
        return code

    @property
    def _end(self) -> int:
        """What can be waited for: that the process has ended."""
        return self._process.sentinel if self._handle is None else self._handle

    def _receive(self) -> bytes:
        try:
            wait([self._connection, self._end])
            if self._connection.poll():
                return self._connection.recv_bytes()
        except (EOFError, OSError):
            pass  # its end of the pipe is closed
        raise ProcessCrashed(self.end(_LAST_WORDS))

    def _kill_in(self, job: int) -> None:
        with self._killing:
            if job == self._job and not self._gone:
                self._kill()

    def _kill(self) -> None:
        self._killed = True
        if sys.platform != "win32":
            try:
                os.killpg(self._pid, signal.SIGKILL)
            except OSError:
                pass  # it has just begun, and has no group of its own yet
        self._process.kill()


def _open_handle(pid: int) -> int | None:
    """A descriptor that tells the end of the process itself; None where the system has none.

    That of multiprocessing is a pipe, which whatever the process has forked keeps open.
    """
    if sys.platform != "linux":
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None  # an old kernel


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """What is started meanwhile gets its first signal when it can handle it, and not amidst its imports."""
    if sys.platform == "win32":
        yield
        return
    from multiprocessing import resource_tracker  # not everywhere

    resource_tracker.ensure_running()  # it would unblock them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
