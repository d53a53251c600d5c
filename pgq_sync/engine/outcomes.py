"""How the end of an attempt becomes the outcome that is written for its job. Decides; runs in whatever thread asks."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from pgq_sync.engine.entries import entry, failure, message
from pgq_sync.entrypoints.context import Context
from pgq_sync.entrypoints.executors import EntrypointExecutorParameters
from pgq_sync.entrypoints.json_values import to_json
from pgq_sync.entrypoints.registry import Entrypoint
from pgq_sync.errors import Cancelled, Hold, Retry
from pgq_sync.models import Claim, Job, OnFailure, Outcome

logger = logging.getLogger("pgq_sync.engine")

_PLAIN_SUCCESS = Outcome(status="succeeded")
_CANCEL_REQUESTED = "the job was asked to cancel"


def success(parameters: EntrypointExecutorParameters, value: Any) -> Outcome:
    """For a handler that returned `value`; raises where that is to be kept and is no JSON."""
    keep = parameters.keep_history
    if not parameters.store_result or value is None:
        return _PLAIN_SUCCESS if keep else Outcome(status="succeeded", keep=False)
    return Outcome(status="succeeded", result=_as_json(parameters.name, value), keep=keep)


def _as_json(entrypoint: str, value: Any) -> str:
    try:
        return to_json(value).decode()
    except TypeError as error:
        kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
        raise TypeError(f"what entrypoint {entrypoint!r} returned, of type {kind}, is no JSON to be stored: {error}") from error


def raised(entrypoint: Entrypoint, context: Context, error: BaseException) -> Outcome:
    """For an attempt that raised `error`, whatever it is."""
    job = context.job
    if isinstance(error, Cancelled):
        # `context.check()` raises it too where only the worker's time is over: nobody wants that job cancelled.
        return interrupted(job, context) if context.interrupted else Outcome(status="cancelled", error=entry(job, error))
    if isinstance(error, (Retry, Hold)):
        if context.cancel_requested:
            return Outcome(status="cancelled", error=entry(job, error, _CANCEL_REQUESTED, error.reason))
        if isinstance(error, Hold):
            return Outcome(status="held", error=entry(job, error, error.reason))
        return Outcome(status="retried", delay=max(error.delay, timedelta()), error=entry(job, error, error.reason))
    # SystemExit and KeyboardInterrupt too: a job may end itself, not the worker.
    _log_failure(job, error)
    if context.cancel_requested and entrypoint.parameters.on_failure == "hold":
        return Outcome(status="cancelled", error=entry(job, error, _CANCEL_REQUESTED))
    return _failed(entrypoint.parameters.on_failure, entry(job, error))


def given_up(entrypoint: Entrypoint, context: Context, error: BaseException, running: float) -> Outcome:
    """For an attempt that failed with what its executor could not catch: that is asked whether to try again.

    Args:
        entrypoint: of the job.
        context: of the attempt.
        error: what it failed with.
        running: how long it ran, in seconds.
    """
    job = context.job
    try:
        delay = entrypoint.executor.retry_after(job, error, running)
    except Exception:
        logger.exception("whether job %s of %s is to be tried again could not be told", job.id, job.entrypoint)
        delay = None
    if delay is None:
        return raised(entrypoint, context, error)
    retry = Retry(delay)
    retry.__cause__ = error
    return raised(entrypoint, context, retry)


def broken(job: Job, error: BaseException) -> Outcome:
    """For an attempt that could not even be made."""
    return Outcome(status="failed", error=failure(job, type(error).__name__, "the attempt could not be run"))


def lost(job: Job) -> Outcome:
    """For a transaction that found its job in other hands. The fence will refuse it: nothing is written."""
    return Outcome(status="failed", error=failure(job, "ClaimLost", "the job was no longer this worker's"))


def worn_out(entrypoint: Entrypoint, claim: Claim) -> Outcome:
    """For a job that has cost too many workers their life to be run once more."""
    reason = f"its worker died {claim.rescues} times while it ran: it is not run again"
    logger.error("job %s of %s: %s", claim.job.id, claim.job.entrypoint, reason)
    return _failed(entrypoint.parameters.on_failure, failure(claim.job, "WorkerDied", reason))


def withdrawn(claim: Claim) -> Outcome:
    """For a job that was asked to cancel before it had started."""
    return Outcome(status="cancelled", error=failure(claim.job, "Cancelled", f"{_CANCEL_REQUESTED} before it started"))


def released(claim: Claim) -> Outcome:
    """For a job that is given back unstarted."""
    return Outcome(status="released")


def interrupted(job: Job, context: Context | None) -> Outcome:
    """For a job that still ran when its worker's time to stop was over. Like the death of a worker that costs no attempt."""
    reason = "the worker stopped while the job ran"
    if context is not None and context.cancel_requested:
        return Outcome(status="cancelled", error=failure(job, "Cancelled", f"{_CANCEL_REQUESTED}; {reason}"))
    if context is not None:
        context.put_back = True
    return Outcome(status="retried", counted=False, error=failure(job, "Interrupted", reason))


def _failed(on_failure: OnFailure, error: str) -> Outcome:
    return Outcome(status="held" if on_failure == "hold" else "failed", error=error)


def _log_failure(job: Job, error: BaseException) -> None:
    logger.warning(
        "job %s of %s failed at attempt %s: %s",
        *(job.id, job.entrypoint, job.attempt, f"{type(error).__name__}: {message(error)}"),
        extra={"job_id": job.id, "entrypoint": job.entrypoint},
    )
