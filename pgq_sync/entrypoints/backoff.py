"""Further tries of a job in the same process, with growing waits between them: one attempt of the job, in one slot."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NoReturn

import tenacity

from pgq_sync.durations import in_seconds
from pgq_sync.entrypoints.context import Context
from pgq_sync.entrypoints.executors import AbstractEntrypointExecutor, EntrypointExecutor, EntrypointExecutorParameters
from pgq_sync.entrypoints.policies import check_from_one, read_delays
from pgq_sync.errors import MaxRetriesExceeded, MaxTimeExceeded
from pgq_sync.models import Job

RetryOn = type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool]
_BY_TIME = (tenacity.stop_after_delay, tenacity.stop_before_delay)


class RetryWithBackoffEntrypointExecutor(AbstractEntrypointExecutor):
    """Calls the function again when it raises, after a wait that doubles from time to time.

    A wait ends at once when the job is asked to stop, when its `timeout` is over, and when the worker stops: then the job goes
    back into the queue, and the attempt does not count. `Retry`, `Hold`, `Cancelled` and `JobTimeout` pass through.

    Args:
        parameters: of the entrypoint.
        max_attempts: calls in all, the first included.
        initial_delay: before the second call, as a timedelta or in seconds, like all durations here.
        max_delay: the longest wait, without its jitter.
        max_time: from the first call on; no wait begins that would end after it.
        jitter: at most this much is added at random to each wait.
        retry_on: which exceptions are worth another call: a type, several in a tuple, or a function that tells.
        retrying: tenacity's own `Retrying` in place of all these. Where it gives up, the same errors are raised, unless it
            says itself what to do, by `reraise`, `retry_error_cls` or `retry_error_callback`.
        inner: what calls the function; by default `EntrypointExecutor`.

    Raises:
        TypeError, ValueError: a value cannot be used.
    """

    def __init__(
        self,
        parameters: EntrypointExecutorParameters,
        max_attempts: int = 5,
        initial_delay: timedelta | float = 0.1,
        max_delay: timedelta | float = 10,
        max_time: timedelta | float = 60,
        jitter: timedelta | float = 0,
        retry_on: RetryOn = Exception,
        retrying: tenacity.Retrying | None = None,
        inner: AbstractEntrypointExecutor | None = None,
    ) -> None:
        super().__init__(parameters)
        check_from_one("max_attempts", max_attempts)
        exponential = tenacity.wait_exponential(*read_delays(initial_delay, max_delay))
        own = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(max_attempts) | tenacity.stop_before_delay(in_seconds("max_time", max_time)),
            wait=exponential + tenacity.wait_random(0, in_seconds("jitter", jitter)),
            retry=_worth(retry_on),
        )
        self._retrying = _prepared(own if retrying is None else _checked(retrying))
        self._inner = inner or EntrypointExecutor(parameters)

    def execute(self, job: Job, context: Context) -> Any:
        """Calls the function until it returns, or raises what is not worth another call.

        Raises:
            MaxRetriesExceeded, MaxTimeExceeded: from the last error.
        """
        return self._retrying.copy(sleep=context.sleep)(self._inner.execute, job, context)

    def retry_after(self, job: Job, error: BaseException, running: float) -> timedelta | None:
        return self._inner.retry_after(job, error, running)

    def close(self) -> None:
        self._inner.close()


def _worth(retry_on: Any) -> tenacity.retry_base:
    kinds = retry_on if isinstance(retry_on, tuple) else (retry_on,)
    if all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
        return tenacity.retry_if_exception_type(kinds)
    if isinstance(retry_on, (type, tuple)) or not callable(retry_on):
        raise TypeError(f"retry_on={retry_on!r}: a type of Exception is accepted, a tuple of them, or a function of an exception")
    return tenacity.retry_if_exception(retry_on)


def _checked(retrying: Any) -> tenacity.Retrying:
    if not isinstance(retrying, tenacity.Retrying):
        raise TypeError(f"retrying={retrying!r}: a tenacity.Retrying is accepted")
    return retrying


def _prepared(retrying: tenacity.Retrying) -> tenacity.Retrying:
    """`retrying`, with what steers a job passing through, and with our errors where it has none of its own."""
    says_itself = retrying.reraise or retrying.retry_error_callback or retrying.retry_error_cls is not tenacity.RetryError
    stop = retrying.stop
    prepared = retrying.copy(retry=_OnlyErrors(retrying.retry))
    return prepared if says_itself else prepared.copy(retry_error_callback=lambda state: _give_up(stop, state))


class _OnlyErrors(tenacity.retry_base):
    """Another strategy, which is not asked about what is no `Exception`: what steers a job, and the end of its time."""

    def __init__(self, strategy: Any) -> None:
        self._strategy = strategy

    def __call__(self, state: tenacity.RetryCallState) -> bool:
        error = _error(state)
        return (error is None or isinstance(error, Exception)) and bool(self._strategy(state))


def _give_up(stop: Any, state: tenacity.RetryCallState) -> NoReturn:
    error, seconds = _error(state), time.monotonic() - state.start_time
    if error is None:
        last = f"returned {state.outcome.result()!r}" if state.outcome else "did nothing"
    else:
        last = f"failed by {type(error).__name__}: {error}"
    tries = f"{state.attempt_number} {'try' if state.attempt_number == 1 else 'tries'} in {seconds:.3g} s"
    if _by_time(stop, state):
        raise MaxTimeExceeded(f"no time is left after {tries}; the last one {last}") from error
    raise MaxRetriesExceeded(f"given up after {tries}; the last one {last}") from error


def _by_time(stop: Any, state: tenacity.RetryCallState) -> bool:
    """Whether the strategies that say stop are all about time."""
    if isinstance(stop, (tenacity.stop_any, tenacity.stop_all)):
        saying = [each for each in stop.stops if each(state)]
        return bool(saying) and all(_by_time(each, state) for each in saying)
    return isinstance(stop, _BY_TIME)


def _error(state: tenacity.RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome is not None and state.outcome.failed else None
