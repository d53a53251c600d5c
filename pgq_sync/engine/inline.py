"""Jobs done one after the other, in the thread and in the transaction of whoever asks: for tests.

No listener, no sign of life, no advisory lock: nothing outlives the call. Only a deadline is kept by another thread.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from typing import Any

from pgq_sync.engine import outcomes
from pgq_sync.engine.attempt import Attempt
from pgq_sync.engine.completer import unstorable
from pgq_sync.engine.environment import Environment, around_in, within
from pgq_sync.engine.guard import Guard
from pgq_sync.engine.identity import identify
from pgq_sync.engine.runner import Produce, Runner
from pgq_sync.engine.worker import WorkReport
from pgq_sync.entrypoints.context import Context
from pgq_sync.entrypoints.registry import Entrypoint, Registry
from pgq_sync.errors import StoreUnavailable
from pgq_sync.models import Claim, Job, Outcome, Settled, Settlement
from pgq_sync.settings import Settings
from pgq_sync.storage.store import Jobs

_SOON = 0.005  # seconds until a handler that had better not be stopped where it is gets to another place
# A statement cut off in the middle would leave the caller's connection, on which the test goes on, useless.
_SPARED = ("psycopg", "sqlalchemy", "django.db", "pgq_sync.storage")


class Inline:
    """Works jobs off in the calling thread.

    Args:
        store: where they are claimed and settled.
        registry: which entrypoints it serves: all.
        settings: of the application.
        resources: the mapping that all jobs share.
        produce: makes what `context.enqueue` enqueues with.
        environment: the framework that they run in.

    Raises:
        ConfigError: nothing is registered.
    """

    def __init__(
        self,
        store: Jobs,
        registry: Registry,
        settings: Settings,
        resources: MutableMapping[Any, Any],
        produce: Produce,
        environment: Environment | None = None,
    ) -> None:
        self._store = store
        self._close_executors = registry.close
        self._worker = identify(registry, settings, name="inline", queues=None, entrypoints=None)
        self._runner = Runner(
            *(registry, store, resources, produce, settings.max_rescues, lambda deadline: None),
            around=around_in(environment, borrowed=True),
            lets_out=(KeyboardInterrupt,),  # here it is meant for the caller, whose thread this is
        )

    def drain(self, max_jobs: int | None = None) -> WorkReport:
        """Runs what is due until nothing is, what these jobs enqueue included, or until `max_jobs` attempts were made."""
        counts: Counter[str] = Counter()
        try:
            for _ in itertools.count() if max_jobs is None else range(max_jobs):
                claim = self._store.claim_next(self._worker)
                if claim is None:
                    break
                counts[self._work(claim)] += 1
        finally:
            self._close_executors()
        return WorkReport(dict(counts))

    def _work(self, claim: Claim) -> str:
        """Runs a job to its end, and tells which; an interrupted one goes back unless its outcome was written by then."""
        try:
            return self._settle(Settlement(claim, self._attempt(claim)))
        except KeyboardInterrupt:
            with suppress(Exception):  # a connection of the caller's may have been spoilt in a statement
                self._written(Settlement(claim, outcomes.interrupted(claim.job, None)))
            raise

    def _attempt(self, claim: Claim) -> Outcome:
        with self._store.sheltered(), _deadlines() as entered:
            return self._runner.run(claim, entered)

    def _settle(self, settlement: Settlement) -> str:
        """Writes an outcome, and tells which; "lost" where the claim is no longer ours."""
        settled = self._written(settlement)
        while settled.blocked:
            time.sleep(_SOON)  # between two looks: somebody else has the row locked
            settled = self._written(settlement)
        return settled.written[0].outcome.status if settled.written else "lost"

    def _written(self, settlement: Settlement) -> Settled:
        if settlement.outcome.written:
            return Settled(written=[settlement])
        try:
            return self._store.settle(self._worker.worker_id, [settlement])
        except StoreUnavailable:
            raise
        except Exception as error:
            return self._store.settle(self._worker.worker_id, [unstorable(settlement, error)])


def attempt(
    entrypoint: Entrypoint,
    job: Job,
    store: Jobs,
    resources: MutableMapping[Any, Any],
    produce: Produce,
    environment: Environment | None = None,
) -> Any:
    """Runs one attempt of a job that need not be in the store; gives and raises what its executor does."""
    context = Attempt(job, resources, produce(store.intake), entrypoint.parameters.timeout)
    surrounding = nullcontext() if environment is None else within(environment.around(job, borrowed=True))
    with store.sheltered(), surrounding, _deadlines() as entered:
        entered(context)
        try:
            return _executed(entrypoint, context, store, produce)
        except BaseException as raised:
            error = context.blamed(raised)
            if error is raised:
                raise
            raise error from raised
        finally:
            entrypoint.executor.close()


def _executed(entrypoint: Entrypoint, context: Attempt, store: Jobs, produce: Produce) -> Any:
    execute = partial(context.run, partial(entrypoint.executor.execute, context.job, context))
    if entrypoint.parameters.transactional:
        with store.transaction() as transaction:
            context.join(transaction, produce(transaction.intake))
            value = execute()
    else:
        value = execute()
    outcomes.success(entrypoint.parameters, value)  # raises where what is to be kept cannot be
    return value


@contextmanager
def _deadlines() -> Iterator[Any]:
    """Keeps the deadline of the attempt whose context it is told, if it has one."""
    over = threading.Event()

    def entered(context: Context) -> None:
        if isinstance(context, Attempt) and context.guard is not None:
            context.guard.spare(_SPARED)
            target = partial(_keep_deadline, context, context.guard, over)
            threading.Thread(target=target, name="pgq-deadline", daemon=True).start()

    try:
        yield entered
    finally:
        over.set()


def _keep_deadline(attempt: Attempt, guard: Guard, over: threading.Event) -> None:
    nap = guard.deadline - time.monotonic()
    while not over.wait(max(nap, 0)) and not guard.fired:
        attempt.end_time()
        nap = _SOON
