"""`pgq-sync worker --processes N`: starts children, starts them again as they end, and stops them in good order.

Runs in the main thread, which waits for mail: signals, ends of children, changed files. Loads no application.
"""

from __future__ import annotations

import logging
import math
import random
import signal
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from pgq_sync.cli.exits import AGAIN, CALLED_WRONGLY, DONE, FAILED, PUT_BACK
from pgq_sync.cli.leash import GRACE
from pgq_sync.cli.process import Process
from pgq_sync.cli.reload import watching
from pgq_sync.engine.mailbox import Mailbox

logger = logging.getLogger("pgq_sync.supervisor")

_WELL = {DONE, AGAIN}  # exit codes of children that were in good order


@dataclass(frozen=True, slots=True, kw_only=True)
class Delays:
    """Durations of the supervisor's, in seconds.

    Attributes:
        first, longest: until a child that failed starts again; doubled from failure to failure, and spread by a quarter.
        steady: once a child has lived so long, its earlier failures count no more.
        grace: how much longer than its shutdown_timeout a child may take to stop before it is killed. Where the database
            does not answer, giving back jobs and writing the last outcomes takes some 25 s until it is given up.
    """

    first: float = 1.0
    longest: float = 60.0
    steady: float = 60.0
    grace: float = GRACE


class Child:
    """One of the supervisor's children, over all its starts. It runs, or waits for `start_at`, or is done.

    Args:
        name: how the log calls it.
        command: what it runs.
        first: what it runs instead until it has come so far as to have a worker.
    """

    def __init__(self, name: str, command: Sequence[str], first: Sequence[str] | None = None) -> None:
        self.process: Process | None = None
        self.start_at: float | None = -math.inf  # by the monotonic clock; inf: when a file changes
        self.starts = 0
        self.delay = 0.0  # seconds before its last start; 0 where it had not failed
        self.result = DONE  # of its last end
        self._name = name
        self._command = command
        self._first = first

    def __str__(self) -> str:
        return f"child {self._name} (pid {self.process.pid})" if self.process else f"child {self._name}"

    @property
    def command(self) -> Sequence[str]:
        return self._command if self._first is None else self._first

    def ended(self, process: Process, code: int, steady: float) -> None:
        """Its process is no more; one that lived `steady` seconds was in good order till then."""
        if process.ready:
            self._first = None
        if code in _WELL or time.monotonic() - process.started >= steady:
            self.delay = 0.0
        # Without a worker yet, it does not handle the signal by which it is asked to stop, and has nothing to put back.
        early = process.asked is not None and code == -signal.SIGTERM and not process.ready
        self.result = PUT_BACK if process.killed else DONE if early else code
        process.close()
        self.process = None


@dataclass(frozen=True, slots=True)
class Ended:
    """Mail: the process of a child has ended."""

    child: Child
    process: Process
    code: int  # negative: the signal that ended it


@dataclass(frozen=True, slots=True)
class Changed:
    """Mail: a file has changed."""

    path: str


class Supervisor:
    """Keeps children running until it is told to stop or they are done.

    Args:
        children: not started yet.
        drain: one that ends well has done its share, and is not started again.
        reload: a folder. When a .py file below it changes, the children are stopped in good order and started again.
        delays: how long to wait for what.
    """

    def __init__(
        self, children: Sequence[Child], *, drain: bool = False, reload: str | None = None, delays: Delays | None = None
    ) -> None:
        self._children = children
        self._drain = drain
        self._reload = reload
        self._delays = delays or Delays()
        self._mailbox = Mailbox[Ended | Changed]()
        self._stopping = self._refused = False

    def run(self) -> int:
        """Starts the children and returns when all are done: after SIGTERM or SIGINT, or the end of a drain.

        Returns:
            The exit code, after the last end of each child: 0 if all ended well, 2 if one was called wrongly, 3 if one had to
            put jobs back or was killed, else 1.
        """
        with self._mailbox.signals(), self._watching():
            while self._catch_up():
                mail = self._mailbox.next(self._next_due())
                if isinstance(mail, Ended):
                    self._ended(mail.child, mail.process, mail.code)
                elif isinstance(mail, Changed):
                    self._changed(mail.path)
                elif mail is not None:
                    self._signalled(mail)
        code = self._code()
        logger.info("all children have ended: exit code %s", code)
        return code

    def request_stop(self) -> None:
        """Makes `run` stop the children, and return; returns at once. May be called from a signal's handler."""
        self._mailbox.put(signal.SIGTERM)

    def _watching(self) -> AbstractContextManager[None]:
        if self._reload is None:
            return nullcontext()
        return watching(self._reload, lambda path: self._mailbox.put(Changed(path)))

    def _catch_up(self) -> bool:
        """Does what is due; tells whether there is anything left to wait for."""
        now = time.monotonic()
        for child in self._children:
            if child.start_at is not None and child.start_at <= now:
                self._start(child)
            elif child.process and child.process.overdue(self._delays.grace) <= now:
                child.process.kill()
                logger.error("%s did not end within its shutdown_timeout and %g s more: killed", child, self._delays.grace)
        return any(child.process or child.start_at is not None for child in self._children)

    def _next_due(self) -> float:
        """The monotonic time at which there is something to do, whatever the mail; inf: never."""
        starts = [child.start_at for child in self._children if child.start_at is not None]
        ends = [child.process.overdue(self._delays.grace) for child in self._children if child.process]
        return min(starts + ends)

    def _start(self, child: Child) -> None:
        child.starts += 1
        child.start_at = None
        try:
            child.process = Process(child.command, lambda process, code: self._mailbox.put(Ended(child, process, code)))
        except OSError as error:
            child.result = FAILED
            delay = self._growing_delay(child)
            child.start_at = time.monotonic() + delay
            logger.warning("%s could not be started: %s; %s", child, error, _when(delay))
        else:
            logger.info("%s started", child)

    def _ended(self, child: Child, process: Process, code: int) -> None:
        what = f"{child} {_how(code)}"
        child.ended(process, code, self._delays.steady)
        if code == CALLED_WRONGLY and child.starts == 1 and not self._stopping:
            self._refused = True
            self._stop(hurry=False)
        delay = None if self._stopping else self._delay(child, process.asked is not None, code)
        child.start_at = None if delay is None else time.monotonic() + delay
        logger.log(
            logging.INFO if child.result in _WELL else logging.WARNING, "%s%s", what, "" if delay is None else f"; {_when(delay)}"
        )

    def _delay(self, child: Child, asked: bool, code: int) -> float | None:
        """Seconds until `child` starts again after it has ended; None: it does not."""
        if asked or code == AGAIN:  # asked, and not for good: since a file has changed
            return 0.0
        if code == DONE:
            return None if self._drain else 0.0
        return self._growing_delay(child) if self._reload is None else math.inf

    def _growing_delay(self, child: Child) -> float:
        child.delay = min(max(self._delays.first, 2 * child.delay), self._delays.longest)
        return child.delay * random.uniform(0.75, 1.25)  # what failed together shall not come again together

    def _changed(self, path: str) -> None:
        if self._stopping:
            return
        logger.info("%s has changed: the children start again", path)
        for child in self._children:
            if child.process is None:
                child.start_at = time.monotonic()
            elif child.process.asked is None:
                child.process.ask()

    def _signalled(self, number: int) -> None:
        hurry = self._stopping
        logger.info("%s: the children are asked to %s", signal.Signals(number).name, "hurry" if hurry else "stop")
        self._stop(hurry=hurry)

    def _stop(self, *, hurry: bool) -> None:
        self._stopping = True
        for child in self._children:
            child.start_at = None
            # What was asked before, since a file had changed, would take a second time for haste.
            if child.process and (hurry or child.process.asked is None):
                child.process.ask()

    def _code(self) -> int:
        results = {child.result for child in self._children}
        if self._refused:
            return CALLED_WRONGLY
        if PUT_BACK in results:
            return PUT_BACK
        return DONE if results <= _WELL else FAILED


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def _when(delay: float) -> str:
    if delay == math.inf:
        return "it starts again when a file changes"
    return f"it starts again in {delay:.1f} s" if delay else "it starts again at once"
