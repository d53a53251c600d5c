"""Entries of a job's errors: what an attempt ended with, as JSON that PostgreSQL can store, whatever was raised."""

from __future__ import annotations

import json
import traceback

from pgq_sync.errors import JobControl, JobTimeout
from pgq_sync.models import Job

_MOST_MESSAGE = 2_000  # characters of an error's message, and
_MOST_TRACEBACK = 20_000  # of its traceback that are kept


def entry(job: Job, raised: BaseException, *reasons: str | None) -> str:
    """The entry for what a handler raised. Where it gave a reason for another error, both are told.

    Args:
        job: with the number of the attempt.
        raised: what came out of the attempt.
        reasons: told before the error's own message.
    """
    # What steers a job is seldom the story: that is what it was raised from.
    steers = isinstance(raised, JobControl) and not isinstance(raised, JobTimeout)
    error = raised.__cause__ if steers and raised.__cause__ else raised
    told = [_cut(storable(reason), _MOST_MESSAGE) for reason in reasons if reason]
    return json.dumps(
        {
            "attempt": job.attempt,
            "type": f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins."),
            "message": ": ".join(dict.fromkeys([*told, message(error)])),
            "traceback": _cut(storable("".join(_format(error))), _MOST_TRACEBACK),
            "worker_id": str(job.worker_id),
            "claimed_at": job.claimed_at.isoformat(),
        }
    )


def failure(job: Job, type_name: str, reason: str) -> str:
    """An entry for which there was no exception."""
    told = {"attempt": job.attempt, "type": type_name, "message": reason}
    return json.dumps(told | {"worker_id": str(job.worker_id), "claimed_at": job.claimed_at.isoformat()})


def message(error: BaseException) -> str:
    """The message of an error, or why there is none."""
    try:
        text = str(error)
    except BaseException as broken:
        text = f"(its message could not be made: {type(broken).__name__})"
    return _cut(storable(text), _MOST_MESSAGE)


def _format(error: BaseException) -> list[str]:
    try:
        return traceback.format_exception(error)
    except BaseException:
        return traceback.format_tb(error.__traceback__)  # its message cannot be made


def storable(text: str) -> str:
    """`text` without what PostgreSQL's jsonb refuses."""
    return text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode()


def _cut(text: str, most: int) -> str:
    """Beginning and end of `text`, since a traceback's end tells most."""
    if len(text) <= most:
        return text
    return f"{text[: most // 3]}\n... {len(text) - most:,} characters left out ...\n{text[-most * 2 // 3 :]}"
