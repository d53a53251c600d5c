"""Brings a stopping worker's running jobs to an end: waits, asks, and puts back what does not listen.

Runs in the thread that stops the worker.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from pgq_sync.engine.completer import Completer
from pgq_sync.engine.mailbox import IDLE, Mailbox
from pgq_sync.engine.runner import Runner
from pgq_sync.engine.slots import Slots
from pgq_sync.models import JobId, Settlement

logger = logging.getLogger("pgq_sync.engine")

LAST_WORDS = 1.0  # seconds that jobs get to notice that they were asked to stop


class Shutdown:
    """The end of the running jobs.

    Args:
        mailbox: where whoever is in a hurry says so, by a signal.
        slots: where the jobs run.
        runner: knows what becomes of an attempt that does not end.
        completer: takes the outcomes.
    """

    def __init__(self, mailbox: Mailbox[Any], slots: Slots, runner: Runner, completer: Completer) -> None:
        self._mailbox = mailbox
        self._slots = slots
        self._runner = runner
        self._completer = completer
        self._idle = threading.Event()  # set when the last running job has finished

    def end_jobs(self, seconds: float) -> set[JobId]:
        """Waits so long, asks what still runs to stop, and settles what does not. A thread that hangs is not waited for.

        Returns:
            The jobs that were put back.
        """
        self._slots.close(self._became_idle)
        asked = []
        if not self._wait_for_idle(seconds):
            asked = [context for slot in self._slots.running() if (context := slot.context) is not None]
            for context in asked:
                context.interrupt()
            self._wait_for_idle(LAST_WORDS)
        put_back = {context.job.id for context in asked if context.put_back} | self._leave_behind()
        if put_back:
            logger.warning("put back %s jobs that were still running: %s", len(put_back), sorted(put_back))
        return put_back

    def _leave_behind(self) -> set[JobId]:
        """Settles what still runs, timed-out and cancelled jobs as such; tells which are put back."""
        put_back: set[JobId] = set()
        for slot in self._slots.running():
            claim, context = slot.claim, slot.context
            if claim is not None:
                self._completer.put(Settlement(claim, self._runner.left_behind(claim, context)))
                if context is None or context.put_back:
                    put_back.add(claim.job.id)
        return put_back

    def _became_idle(self) -> None:
        self._idle.set()
        self._mailbox.put(IDLE)

    def _wait_for_idle(self, seconds: float) -> bool:
        """Waits for the running jobs, until the time is over or somebody is in a hurry."""
        deadline = time.monotonic() + seconds
        while not self._idle.is_set():
            # In short waits: the thread in `run` may have taken the word that was meant for this one.
            mail = self._mailbox.next(min(deadline, time.monotonic() + LAST_WORDS))
            if isinstance(mail, int) or time.monotonic() >= deadline:
                break
        return self._idle.is_set()
