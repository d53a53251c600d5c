"""One attempt, from a claimed job to its outcome. Runs in the pool's threads, never raises and does no queue I/O.

An attempt of a transactional entrypoint is the exception: it commits the handler's transaction with the completion in it.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, MutableMapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from msgspec.structs import replace

from pgq_sync.engine import outcomes
from pgq_sync.engine.attempt import Attempt
from pgq_sync.engine.environment import Around, Surrounding, within
from pgq_sync.entrypoints.context import Context, TakeReport
from pgq_sync.entrypoints.registry import Entrypoint, Registry
from pgq_sync.entrypoints.signals import Signal
from pgq_sync.errors import JobTimeout
from pgq_sync.models import Claim, Outcome, Settlement
from pgq_sync.storage.producer import Producer
from pgq_sync.storage.store import Intake, Jobs

logger = logging.getLogger("pgq_sync.engine")

Entered = Callable[[Context], None]
Produce = Callable[[Callable[[], AbstractContextManager[Intake]]], Producer]


class ClaimLost(Exception):
    """The job of a transaction that is to be committed is in other hands: it is rolled back instead."""


class Runner:
    """Runs attempts.

    Args:
        registry: where the functions are.
        store: for the transactions of handlers.
        resources: the mapping that all jobs share.
        produce: makes what the context enqueues with.
        max_rescues: how often a job is run again after its worker died.
        expect: told the deadline of each attempt that has one.
        report: told how far attempts are.
        around: makes what surrounds each attempt; None: nothing does.
        lets_out: what an attempt may raise to whoever runs it, and that is not taken for the end of the job.

    Attributes:
        stopping: to be set when the worker stops, so that jobs that only wait end at once.
    """

    def __init__(
        self,
        registry: Registry,
        store: Jobs,
        resources: MutableMapping[Any, Any],
        produce: Produce,
        max_rescues: int,
        expect: Callable[[float], None],
        report: TakeReport | None = None,
        around: Around | None = None,
        lets_out: tuple[type[BaseException], ...] = (),
    ) -> None:
        self.stopping = Signal()
        self._registry = registry
        self._transaction = store.transaction
        self._resources = resources
        self._produce = produce
        self._producer = produce(store.intake)
        self._max_rescues = max_rescues
        self._expect = expect
        self._report = report
        self._around = around
        self._lets_out = lets_out

    def run(self, claim: Claim, entered: Entered) -> Outcome:
        """Runs one attempt; `entered` gets its context, by which it can be asked to stop."""
        try:
            entrypoint = self._registry.get(claim.job.entrypoint)
            if claim.rescues > self._max_rescues:
                return outcomes.worn_out(entrypoint, claim)
            parameters = entrypoint.parameters
            surrounding = None if self._around is None else self._around(claim.job)
            if surrounding is not None or parameters.timeout is not None or parameters.transactional:
                return self._special(entrypoint, claim, entered, surrounding)
            return self._plain(entrypoint, claim, entered)
        except self._lets_out:
            raise
        except BaseException as error:
            # Nothing that a job does may cost the pool its thread, a log handler that fails included.
            with contextlib.suppress(Exception):
                logger.exception("job %s of %s could not be run", claim.job.id, claim.job.entrypoint)
            return outcomes.broken(claim.job, error)

    def left_behind(self, claim: Claim, context: Context | None) -> Outcome:
        """The outcome of an attempt that has not ended when its worker does."""
        if isinstance(context, Attempt) and context.timed_out:
            entrypoint = self._registry.get(claim.job.entrypoint)
            return outcomes.given_up(entrypoint, context, context.blamed(JobTimeout()), time.monotonic() - context.started)
        return outcomes.interrupted(claim.job, context)

    def _plain(self, entrypoint: Entrypoint, claim: Claim, entered: Entered) -> Outcome:
        context = Context(claim.job, self._resources, self._producer, self._report, self.stopping)
        entered(context)
        try:
            return outcomes.success(entrypoint.parameters, entrypoint.executor.execute(claim.job, context))
        except self._lets_out:
            raise
        except BaseException as error:
            return outcomes.raised(entrypoint, context, error)

    def _special(self, entrypoint: Entrypoint, claim: Claim, entered: Entered, surrounding: Surrounding | None) -> Outcome:
        """An attempt with a timeout, a transaction or a framework."""
        parameters = entrypoint.parameters
        attempt = Attempt(claim.job, self._resources, self._producer, parameters.timeout, self._report, self.stopping)
        attempt.surrounding = surrounding
        entered(attempt)
        if attempt.guard is not None:
            self._expect(attempt.guard.deadline)
        try:
            with contextlib.nullcontext() if surrounding is None else within(surrounding):
                if parameters.transactional:
                    return self._transact(entrypoint, claim, attempt)
                return self._execute(entrypoint, attempt)
        except ClaimLost:
            return outcomes.lost(claim.job)
        except self._lets_out:
            raise
        except BaseException as raised:
            error = attempt.blamed(raised)
            if attempt.settling or isinstance(error, JobTimeout):
                return outcomes.given_up(entrypoint, attempt, error, time.monotonic() - attempt.started)
            return outcomes.raised(entrypoint, attempt, error)

    def _transact(self, entrypoint: Entrypoint, claim: Claim, attempt: Attempt) -> Outcome:
        """Leaving the block commits; whatever raises rolls back: the handler's work and its completion, both or neither."""
        with self._transaction() as transaction:
            attempt.join(transaction, self._produce(transaction.intake))
            outcome = self._execute(entrypoint, attempt)
            if transaction.since is None:
                return outcome  # never used: to be written with the others
            attempt.settling = True
            if not transaction.finish(Settlement(claim, outcome)):
                raise ClaimLost
        return replace(outcome, written=True)

    def _execute(self, entrypoint: Entrypoint, attempt: Attempt) -> Outcome:
        value = attempt.run(partial(entrypoint.executor.execute, attempt.job, attempt))
        return outcomes.success(entrypoint.parameters, value)
