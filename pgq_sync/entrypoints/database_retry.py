"""Another attempt through the database for a job that failed: after any restart, on any worker."""

from __future__ import annotations

import time
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any

import tenacity
from tenacity.retry import RetryBaseT
from tenacity.stop import StopBaseT
from tenacity.wait import WaitBaseT

from pgq_sync.durations import in_seconds
from pgq_sync.entrypoints.context import Context
from pgq_sync.entrypoints.executors import AbstractEntrypointExecutor, EntrypointExecutor, EntrypointExecutorParameters
from pgq_sync.entrypoints.policies import check_from_one, read_delays
from pgq_sync.errors import JobTimeout, Retry
from pgq_sync.models import Job

_DELAYS = ("initial_delay", "max_delay", "backoff_multiplier", "jitter")


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseRetry:
    """When a failed job is tried again through the database. Delays are given as a timedelta or in seconds.

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
        TypeError, ValueError: a value is of another kind, or out of range; or it would have no effect beside another one.
    """

    max_attempts: int = 5
    initial_delay: timedelta | float = timedelta(seconds=1)
    max_delay: timedelta | float = timedelta(minutes=5)
    backoff_multiplier: float = 2
    jitter: timedelta | float = timedelta()
    stop: StopBaseT | None = None
    wait: WaitBaseT | None = None
    retry: RetryBaseT | None = None

    def __post_init__(self) -> None:
        check_from_one("max_attempts", self.max_attempts)
        check_from_one("backoff_multiplier", self.backoff_multiplier, whole=False)
        read_delays(self.initial_delay, self.max_delay)
        in_seconds("jitter", self.jitter)
        for name in ("stop", "wait", "retry"):
            strategy = getattr(self, name)
            if strategy is not None and (isinstance(strategy, type) or not callable(strategy)):
                raise TypeError(f"{name}={strategy!r}: one of tenacity's {name} strategies is accepted")
        self._refuse_without_effect()

    def _refuse_without_effect(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if self.wait is not None and field.name in _DELAYS and value != field.default:
                raise TypeError(f"{field.name}={value!r} has no effect beside wait=..., which is in its place: leave one out")

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
        if not worth(state):
            return None
        state.upcoming_sleep = float((self.wait or self._backoff())(state))  # some strategies to stop look at it
        return None if stop(state) else timedelta(seconds=state.upcoming_sleep)

    def _backoff(self) -> WaitBaseT:
        first, longest = read_delays(self.initial_delay, self.max_delay)
        # No delay stays none, where tenacity, after a thousand attempts, can no longer multiply and takes the longest.
        longest = longest if first else 0.0
        exponential = tenacity.wait_exponential(multiplier=first, exp_base=self.backoff_multiplier, max=longest)
        return exponential + tenacity.wait_random(0, in_seconds("jitter", self.jitter))


class DatabaseRetryEntrypointExecutor(AbstractEntrypointExecutor):
    """Gives a failed job another attempt through the database. An explicit `Retry` passes through, and counts.

    Args:
        parameters: of the entrypoint.
        policy: when to try again; or give its fields as keywords.
        inner: what runs the attempt; by default `EntrypointExecutor`.

    Raises:
        TypeError, ValueError: one of the fields cannot be used, or there is a policy already.
    """

    def __init__(
        self,
        parameters: EntrypointExecutorParameters,
        *,
        policy: DatabaseRetry | None = None,
        inner: AbstractEntrypointExecutor | None = None,
        **policy_fields: Any,
    ) -> None:
        super().__init__(parameters)
        if policy and policy_fields:
            raise TypeError(f"there is a policy already: {', '.join(policy_fields)} cannot be given as well")
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

    def close(self) -> None:
        self._inner.close()
