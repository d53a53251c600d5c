"""The processes of one executor: each runs one job at a time, and a job that costs its process costs no other.

Used by the slots' threads, in which nothing is raised from outside meanwhile.
"""

from __future__ import annotations

import atexit
import functools
import os
import threading
import time

from pgq_sync.entrypoints.context import Context
from pgq_sync.entrypoints.process.children import Child
from pgq_sync.errors import ProcessCrashed

_ROUND = 0.1  # seconds between two looks at processes that are starting
_GOODBYE = 3.0  # seconds in which idle processes end by themselves
_open: set[ProcessPool] = set()  # those that have processes, to be closed at exit: they alone are kept alive for that


class ProcessPool:
    """Starts processes as jobs need them.

    Args:
        work: what they do with the jobs.
        size: how many there are at most.
    """

    def __init__(self, work: bytes, size: int) -> None:
        self._work = work
        self._size = size
        self._pid = os.getpid()
        self._changed = threading.Condition()  # and the lock of everything below
        self._idle: list[Child] = []
        self._count = 0  # with those that run something, and those that are starting
        self._starting = 0
        self._begun: list[Child] = []  # of those that are starting, as soon as there is a process
        self._failures: list[BaseException] = []  # of starts, for jobs that wait
        self._waiting = 0  # jobs

    def run(self, job: bytes, context: Context) -> bytes:
        """Has a process run a job; the answer.

        Raises:
            ProcessCrashed: the process ended without one.
            JobTimeout, Cancelled: the job was to end: its process is killed, or it has not begun.
            OSError: no process can be started.
        """
        with context.waking(self._look_again):
            child = self._take(context)
            try:
                with context.waking(child.killer(), idle=False):
                    return child.ask(job)
            except ProcessCrashed as error:
                crash = error
            finally:
                self._give_back(child)
            context.check()  # maybe that is why; then it was no crash, and is not told as one
            raise crash

    def close(self) -> None:
        """Ends the processes that run nothing."""
        if os.getpid() != self._pid:
            return  # they are those of the process that this one was forked from
        deadline = time.monotonic() + _GOODBYE
        self._end_starting(deadline)
        with self._changed:
            idle, self._idle = self._idle, []
        for child in idle:
            child.dismiss()
        for child in idle:
            child.end(max(deadline - time.monotonic(), 0))
        self._forget(len(idle))
        with self._changed:
            if not self._count:
                _open.discard(self)

    def _look_again(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _take(self, context: Context) -> Child:
        """An idle process; waits for one to be ready, or done."""
        with self._changed:
            self._waiting += 1
            try:
                while True:
                    context.check_idle()
                    if self._failures:
                        raise self._failures.pop()
                    if (child := self._living()) is not None:
                        return child
                    self._start_enough()
                    self._changed.wait()
            finally:
                self._waiting -= 1
                if not self._waiting:
                    self._failures.clear()

    def _living(self) -> Child | None:
        while self._idle:
            child = self._idle.pop()
            if child.alive:
                return child
            child.end()  # which takes no time where it is dead
            self._count -= 1
        return None

    def _start_enough(self) -> None:
        while self._count < self._size and self._starting < self._waiting:
            # In threads of their own: a job whose time is over meanwhile costs the next one nothing of the start.
            threading.Thread(target=self._start, name="pgq-start", daemon=True).start()
            self._count += 1
            self._starting += 1
            _open.add(self)
            _close_all_at_exit()

    def _start(self) -> None:
        child: Child | None = None
        try:
            child = Child(self._work)
            with self._changed:
                self._begun.append(child)
            child.wait_until_ready()
        except Exception as error:
            self._started(child, error)
        else:
            self._started(child)

    def _started(self, child: Child | None, error: Exception | None = None) -> None:
        with self._changed:
            self._starting -= 1
            wanted = child is None or child in self._begun
            self._begun = [each for each in self._begun if each is not child]
            if child is not None and error is None:
                self._idle.append(child)
            else:
                self._count -= 1
            if error is not None and wanted and self._waiting:
                self._failures.append(error)
            self._changed.notify_all()

    def _end_starting(self, deadline: float) -> None:
        """Kills what is just being started, unless a job of another worker waits for it."""
        with self._changed:
            while self._starting and not self._waiting and (left := deadline - time.monotonic()) > 0:
                for child in self._begun:
                    child.kill()
                self._begun.clear()
                self._changed.wait(min(left, _ROUND))

    def _give_back(self, child: Child) -> None:
        if child.done():
            with self._changed:
                self._idle.append(child)
                self._changed.notify_all()  # the one that is woken may be about to end
            return
        try:
            child.end()
        finally:
            self._forget(1)

    def _forget(self, children: int) -> None:
        with self._changed:
            self._count -= children
            self._changed.notify_all()


@functools.cache
def _close_all_at_exit() -> None:
    # multiprocessing, at exit, waits for every process, and comes after this.
    atexit.register(_close_all)


def _close_all() -> None:
    for pool in list(_open):
        pool.close()
