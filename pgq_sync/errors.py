"""Every error that pgq-sync raises, and the exceptions by which a handler steers its job."""

from __future__ import annotations

import signal
from concurrent.futures import CancelledError
from datetime import timedelta
from typing import Any


class PgqError(Exception):
    """The base of pgq-sync's errors."""


class ConfigError(PgqError):
    """A setting is missing, unknown or malformed; the message names it, its value and what is accepted."""


class SchemaError(PgqError):
    """The database lacks pgq-sync's schema, has another version of it, or keeps the user out; the message names what helps."""


class StoreUnavailable(PgqError):
    """The database could not be reached, or could not do it now. The engine tries again; nothing is lost."""


class PayloadTooLarge(PgqError, ValueError):
    """A payload exceeds `max_payload`; nothing was enqueued.

    Args:
        size: the payload's size in bytes.
        limit: the largest size allowed, in bytes.
    """

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            f"the payload has {size:,} bytes, the limit is {limit:,}: store it elsewhere and enqueue a reference, "
            "or raise the setting max_payload"
        )
        self.size = size
        self.limit = limit


class DuplicateJob(PgqError):
    """An unfinished job already has this dedupe key; nothing of the batch was enqueued.

    Args:
        key: the dedupe key.
        job_id: the job that has it; None where the batch itself used the key twice.
    """

    def __init__(self, key: str, job_id: int | None) -> None:
        holder = f"is taken by job {job_id}" if job_id is not None else "stands twice in the same batch"
        super().__init__(f"dedupe_key {key!r} {holder}: pass on_conflict='skip', 'existing' or 'replace'")
        self.key = key
        self.job_id = job_id

    def __reduce__(self) -> tuple[type[DuplicateJob], tuple[str, int | None]]:
        return DuplicateJob, (self.key, self.job_id)


class JobNotFound(PgqError, LookupError):
    """There is no job with this id: it is unknown, not committed yet, or forgotten.

    Args:
        job_id: the id.
    """

    def __init__(self, job_id: int) -> None:
        super().__init__(f"there is no job {job_id}: it was never enqueued, is not committed yet, or is forgotten by now")
        self.job_id = job_id

    def __reduce__(self) -> tuple[type[JobNotFound], tuple[int]]:
        return JobNotFound, (self.job_id,)


class JobFailed(PgqError):
    """A job whose result was wanted has not succeeded: it failed, was cancelled, deleted, or is held.

    Its cause is a `RemoteTraceback`, where an attempt has left one.

    Args:
        completion: how the job has ended: a `Completion`.
    """

    def __init__(self, completion: Any) -> None:
        super().__init__(_ending(completion))
        self.completion = completion

    def __reduce__(self) -> tuple[type[JobFailed], tuple[Any]]:
        return JobFailed, (self.completion,)


class WaitEnded(PgqError, CancelledError):
    """What waited for a job was closed: the application, or the watcher. Nothing is known of how the job ends.

    Args:
        job_id: the job.
    """

    def __init__(self, job_id: int) -> None:
        super().__init__(
            f"job {job_id} is not waited for: the application, or its watcher, was closed; wait anew, by a new watcher"
        )
        self.job_id = job_id

    def __reduce__(self) -> tuple[type[WaitEnded], tuple[int]]:
        return WaitEnded, (self.job_id,)


class RemoteTraceback(Exception):
    """The traceback of an attempt in another process, as the cause of an error here.

    Args:
        text: the traceback.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


class MaxRetriesExceeded(PgqError):
    """An attempt of a job was tried in process as often as allowed; raised from the last error."""


class MaxTimeExceeded(PgqError):
    """An attempt of a job was tried in process for as long as allowed; raised from the last error."""


class ProcessCrashed(PgqError):
    """The process in which a job ran has ended without a word: it called `os._exit`, or the system ended it.

    Args:
        exit_code: of the process; negative: the number of the signal that ended it; None: it is not known.
    """

    def __init__(self, exit_code: int | None) -> None:
        super().__init__(f"the process in which the job ran {_ended(exit_code)}")
        self.exit_code = exit_code

    def __reduce__(self) -> tuple[type[ProcessCrashed], tuple[int | None]]:
        return ProcessCrashed, (self.exit_code,)


class RemoteError(PgqError):
    """What a job raised in another process, where the exception itself cannot be sent; the message tells its type and text."""


class JobControl(BaseException):
    """The base of what a handler raises to steer its job, and of what the engine raises in it.

    It derives from BaseException, so that a handler's own `except Exception` does not swallow it.

    Args:
        reason: kept in the job's errors; an object that is no text, as an exception, by its `str()`.
    """

    _unsaid = ""  # the message where no reason is given

    def __init__(self, reason: object = None) -> None:
        self.reason = None if reason is None else _told(reason)
        super().__init__(self.reason or self._unsaid)

    def __reduce__(self) -> Any:
        # By its state: a subclass may take other arguments than it keeps.
        return _restored, (type(self), self.args, self.__dict__)


class Retry(JobControl):
    """Raised by a handler: run this job again, as a new attempt through the database.

    Args:
        delay: how long to wait, as a timedelta or in seconds; zero and less mean now.
        reason: kept with the attempt in the job's errors, by its `str()`.

    Raises:
        TypeError: the delay is neither a timedelta nor a number.
        ValueError: the delay is no finite number, or longer than a timedelta can be.
    """

    _unsaid = "retry"

    def __init__(self, delay: timedelta | float = 0, reason: object = None) -> None:
        super().__init__(reason)
        self.delay = _duration(delay)


class Cancelled(JobControl):
    """Raised by a handler, or by `context.check()`: end this job as cancelled.

    Args:
        reason: kept in the job's errors, by its `str()`.
    """

    _unsaid = "cancelled"


class Hold(JobControl):
    """Raised by a handler: park this job for a person to look at.

    Args:
        reason: kept in the job's errors, by its `str()`.
    """

    _unsaid = "held"


class JobTimeout(JobControl):
    """Raised in a handler, at whatever it is doing, when its `timeout` is over: the attempt has failed.

    Args:
        reason: kept in the job's errors, by its `str()`.
    """

    _unsaid = "the attempt took longer than its timeout"


class ArgumentsError(JobControl):
    """Raised in place of a task's call: the job's arguments do not fit the function. No further attempt could do better.

    Args:
        reason: kept in the job's errors.
    """


def _ending(completion: Any) -> str:
    ended = "is held" if completion.status == "held" else f"ended as {completion.status}"
    line = f"job {completion.job_id} of {completion.entrypoint} {ended}"
    error = completion.error
    if error is None:
        return f"{line} after {completion.attempts} attempts"
    return f"{line} at attempt {error.get('attempt', completion.attempts)}: {error.get('type')}: {error.get('message')}"


def _restored(kind: type[JobControl], args: tuple[Any, ...], state: dict[str, Any]) -> JobControl:
    control = kind.__new__(kind, *args)
    control.__dict__.update(state)
    return control


def _ended(exit_code: int | None) -> str:
    if exit_code is None:
        return "ended; its exit code is not known"
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = f"signal {-exit_code}"
    return f"was ended by {name}" + (" (as the system does when memory is short)" if name == "SIGKILL" else "")


def _told(reason: object) -> str:
    try:
        # Some exceptions say nothing but what they are.
        return str(reason) or (repr(reason) if isinstance(reason, BaseException) else "")
    except Exception as error:
        return f"(a {type(reason).__name__} whose text cannot be made: {type(error).__name__})"


def _duration(delay: object) -> timedelta:
    if isinstance(delay, timedelta):
        return delay
    if not isinstance(delay, (int, float)) or isinstance(delay, bool):
        raise TypeError(f"delay={delay!r}: a timedelta or a number of seconds is accepted")
    try:
        return timedelta(seconds=delay)
    except (OverflowError, ValueError):
        raise ValueError(
            f"delay={delay!r}: a finite number of seconds is accepted, at most {timedelta.max.days:,} days"
        ) from None
