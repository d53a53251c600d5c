"""One attempt, from a claimed job to its outcome. Runs in the pool's threads, never raises and does no queue I/O."""

from __future__ import annotations

import contextlib
import json
import logging
import traceback
from collections.abc import Callable, MutableMapping
from datetime import timedelta
from typing import Any, Literal

import msgspec

from pgq_sync.entrypoints.context import Context
from pgq_sync.entrypoints.executors import EntrypointExecutorParameters
from pgq_sync.entrypoints.registry import Entrypoint, Registry
from pgq_sync.errors import Cancelled, Hold, JobControl, Retry
from pgq_sync.models import Claim, Job, Outcome

logger = logging.getLogger("pgq_sync.engine")

_PLAIN_SUCCESS = Outcome(status="succeeded")
_MOST_MESSAGE = 2_000  # characters of an error's message, and
_MOST_TRACEBACK = 20_000  # of its traceback that are kept


class Runner:
    """Runs attempts.

    Args:
        registry: where the functions are.
        resources: the mapping that all jobs share.
        enqueue: for `context.enqueue`.
    """

    def __init__(self, registry: Registry, resources: MutableMapping[Any, Any], enqueue: Callable[..., Any]) -> None:
        self._registry = registry
        self._resources = resources
        self._enqueue = enqueue

    def run(self, claim: Claim, entered: Callable[[Context], None]) -> Outcome:
        """Runs one attempt; `entered` gets its context, by which it can be asked to stop."""
        try:
            entrypoint = self._registry.get(claim.job.entrypoint)
            return self._attempt(entrypoint, claim.job, entered)
        except BaseException as error:
            # Nothing that a job does may cost the pool its thread, a log handler that fails included.
            with contextlib.suppress(Exception):
                logger.exception("job %s of %s could not be run", claim.job.id, claim.job.entrypoint)
            return Outcome(status="failed", error=failure(claim.job, type(error).__name__, "the attempt could not be run"))

    def _attempt(self, entrypoint: Entrypoint, job: Job, entered: Callable[[Context], None]) -> Outcome:
        context = Context(job, self._resources, self._enqueue)
        entered(context)
        try:
            return _success(entrypoint.parameters, entrypoint.executor.execute(job, context))
        except Retry as retry:
            return Outcome(status="retried", delay=max(retry.delay, timedelta()), error=_error(job, retry, retry.reason))
        except Hold as hold:
            return Outcome(status="held", error=_error(job, hold, hold.reason))
        except Cancelled as cancelled:
            return Outcome(status="cancelled", error=_error(job, cancelled))
        except BaseException as error:
            # SystemExit and KeyboardInterrupt too: a job may end itself, not the worker.
            _log_failure(job, error)
            on_failure: Literal["failed", "held"] = "held" if entrypoint.parameters.on_failure == "hold" else "failed"
            return Outcome(status=on_failure, error=_error(job, error))


def failure(job: Job, type_name: str, reason: str) -> str:
    """An entry of a job's errors for which there was no exception."""
    return json.dumps({"attempt": job.attempt, "type": type_name, "message": reason, "worker_id": str(job.worker_id)})


def _log_failure(job: Job, error: BaseException) -> None:
    logger.warning(
        "job %s of %s failed at attempt %s: %s",
        *(job.id, job.entrypoint, job.attempt, f"{type(error).__name__}: {_message(error)}"),
        extra={"job_id": job.id, "entrypoint": job.entrypoint},
    )


def _success(parameters: EntrypointExecutorParameters, value: Any) -> Outcome:
    keep = parameters.keep_history
    if not parameters.store_result or value is None:
        return _PLAIN_SUCCESS if keep else Outcome(status="succeeded", keep=False)
    return Outcome(status="succeeded", result=msgspec.json.encode(value).decode(), keep=keep)


def _error(job: Job, raised: BaseException, reason: str | None = None) -> str:
    """An entry of a job's errors. Where a handler gave a reason for another error, both are told."""
    error = raised.__cause__ if isinstance(raised, JobControl) and raised.__cause__ else raised
    message = (
        _message(error) if reason is None or error is raised else f"{_cut(_storable(reason), _MOST_MESSAGE)}: {_message(error)}"
    )
    return json.dumps(
        {
            "attempt": job.attempt,
            "type": f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins."),
            "message": message,
            "traceback": _cut(_storable("".join(_format(error))), _MOST_TRACEBACK),
            "worker_id": str(job.worker_id),
        }
    )


def _message(error: BaseException) -> str:
    try:
        text = str(error)
    except BaseException as broken:
        text = f"(its message could not be made: {type(broken).__name__})"
    return _cut(_storable(text), _MOST_MESSAGE)


def _format(error: BaseException) -> list[str]:
    try:
        return traceback.format_exception(error)
    except BaseException:
        return traceback.format_tb(error.__traceback__)  # its message cannot be made


def _storable(text: str) -> str:
    """`text` without what PostgreSQL's jsonb refuses."""
    return text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode()


def _cut(text: str, most: int) -> str:
    """Beginning and end of `text`, since a traceback's end tells most."""
    if len(text) <= most:
        return text
    return f"{text[: most // 3]}\n... {len(text) - most:,} characters left out ...\n{text[-most * 2 // 3 :]}"
