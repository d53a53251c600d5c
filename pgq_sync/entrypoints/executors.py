"""How a registered function is called: directly, or with another attempt through the database when it fails."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import tenacity
from tenacity.retry import RetryBaseT
from tenacity.stop import StopBaseT
from tenacity.wait import WaitBaseT

from pgq_sync.entrypoints.calls import Call
from pgq_sync.entrypoints.context import Context
from pgq_sync.errors import JobTimeout, Retry
from pgq_sync.models import Job, Limit, OnFailure


@dataclass(frozen=True, slots=True, kw_only=True)
class EntrypointExecutorParameters:
    """What was declared about an entrypoint, for its executor."""

    name: str
    func: Callable[..., Any]  # the user's function
    call: Call  # calls it with what it was declared to take
    queue: str | None
    on_failure: OnFailure
    store_result: bool
    keep_history: bool
    limit: Limit | None = None  # None: unlimited
    timeout: float | None = None  # of an attempt, in seconds
    transactional: bool = False


class AbstractEntrypointExecutor(ABC):
    """A strategy that calls the function. Subclass it, write `execute`, and give the class as `executor_factory`."""

    def __init__(self, parameters: EntrypointExecutorParameters) -> None:
        self.parameters = parameters

    @abstractmethod
    def execute(self, job: Job, context: Context) -> Any:
        """Runs one attempt, in a thread of the pool.

        Returns:
            The job's result.

        Raises:
            Retry, Hold, Cancelled: to steer the job; anything else fails the attempt.
        """

    def retry_after(self, job: Job, error: BaseException, running: float) -> timedelta | None:
        """After which delay to try a job again that failed outside of `execute`, or None to let it fail.

        Asked for what the engine alone knows: a thread that hangs beyond its timeout, a commit that failed.

        Args:
            job: with the number of the attempt that failed.
            error: what it failed with.
            running: how long it ran, in seconds.
        """
        return None


class EntrypointExecutor(AbstractEntrypointExecutor):
    """Calls the function."""

    def execute(self, job: Job, context: Context) -> Any:
        return self.parameters.call(job, context)


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseRetry:
    """When a failed job is tried again through the database: after any restart, on any worker.

    Args:
        max_attempts: of the job, the first included.
        initial_delay: before the second attempt.
        max_delay: the longest delay.
        backoff_multiplier: by which each delay is longer than the one before.
        jitter: at most this much is added at random to each delay.
        stop: a tenacity strategy in place of `max_attempts`.
        wait: a tenacity strategy in place of the delays.
        retry: a tenacity strategy that tells which exceptions are worth another attempt; by default every `Exception`,
            and `JobTimeout`.

    Raises:
        ValueError: a value is out of range.
    """

    max_attempts: int = 5
    initial_delay: timedelta = timedelta(seconds=1)
    max_delay: timedelta = timedelta(minutes=5)
    backoff_multiplier: float = 2
    jitter: timedelta = timedelta()
    stop: StopBaseT | None = None
    wait: WaitBaseT | None = None
    retry: RetryBaseT | None = None

    def __post_init__(self) -> None:
        _check("max_attempts", self.max_attempts, int, 1, "a whole number from 1 up")
        _check("backoff_multiplier", self.backoff_multiplier, (int, float), 1, "a number from 1 up")
        for name in ("initial_delay", "max_delay", "jitter"):
            _check(name, getattr(self, name), timedelta, timedelta(), "a timedelta that is not negative")
        for name in ("stop", "wait", "retry"):
            strategy = getattr(self, name)
            if strategy is not None and (isinstance(strategy, type) or not callable(strategy)):
                raise TypeError(f"{name}={strategy!r}: one of tenacity's {name} strategies is accepted")

    def delay(self, job: Job, error: BaseException, running: float) -> timedelta | None:
        """How long to wait before the next attempt, or None to let the job fail.

        Args:
            job: with the number of the attempt that failed.
            error: what it failed with.
            running: how long it ran, in seconds.
        """
        state = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})
        state.attempt_number = job.attempt
        # tenacity's time-outs count from the first attempt; the job's age is what a database knows of that.
        state.start_time = time.monotonic() - running - (job.claimed_at - job.created_at).total_seconds()
        state.set_exception((type(error), error, error.__traceback__))
        worth = self.retry or tenacity.retry_if_exception_type((Exception, JobTimeout))
        stop = self.stop or tenacity.stop_after_attempt(self.max_attempts)
        if not worth(state) or stop(state):
            return None
        return timedelta(seconds=float((self.wait or self._backoff())(state)))

    def _backoff(self) -> WaitBaseT:
        exponential = tenacity.wait_exponential(
            multiplier=self.initial_delay.total_seconds(),
            exp_base=self.backoff_multiplier,
            max=self.max_delay.total_seconds(),
        )
        return exponential + tenacity.wait_random(0, self.jitter.total_seconds())


def _check(name: str, value: Any, kinds: type | tuple[type, ...], least: Any, accepted: str) -> None:
    shown = value if isinstance(value, timedelta) else repr(value)
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise TypeError(f"{name}={shown}: {accepted} is accepted")
    if not value >= least:
        raise ValueError(f"{name}={shown}: {accepted} is accepted")


class DatabaseRetryEntrypointExecutor(AbstractEntrypointExecutor):
    """Gives a failed job another attempt through the database. An explicit `Retry` passes through, and counts.

    Args:
        parameters: of the entrypoint.
        policy: when to try again; or give its fields as keywords.
        inner: what runs the attempt; by default `EntrypointExecutor`.
    """

    def __init__(
        self,
        parameters: EntrypointExecutorParameters,
        policy: DatabaseRetry | None = None,
        inner: AbstractEntrypointExecutor | None = None,
        **policy_fields: Any,
    ) -> None:
        super().__init__(parameters)
        self._policy = policy or DatabaseRetry(**policy_fields)
        self._inner = inner or EntrypointExecutor(parameters)

    def execute(self, job: Job, context: Context) -> Any:
        started = time.monotonic()
        try:
            return self._inner.execute(job, context)
        except (Exception, JobTimeout) as raised:
            error = context.blamed(raised)
            delay = self._policy.delay(job, error, time.monotonic() - started)
            if delay is None:
                raise
            raise Retry(delay) from error

    def retry_after(self, job: Job, error: BaseException, running: float) -> timedelta | None:
        delay = self._inner.retry_after(job, error, running)
        return self._policy.delay(job, error, running) if delay is None else delay
