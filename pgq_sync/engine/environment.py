"""What a framework sets up around each attempt: Django its connections, Flask its application context."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Protocol

from pgq_sync.models import Job

logger = logging.getLogger("pgq_sync.engine")


class Surrounding(Protocol):
    """What surrounds one attempt. The slot's thread enters and leaves it; `cancel` is for others."""

    def __enter__(self) -> object:
        """Makes ready. What it raises fails the attempt."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Cleans up. What it raises is logged, and fails nothing."""

    def cancel(self) -> None:
        """The attempt's time is over: cuts off what it waits for. From any thread, while the attempt runs; never raises."""

    def discard(self) -> None:
        """What `cancel` has cut off is not to be used again: a late request would hit whoever does."""


class Environment(Protocol):
    """A framework in which handlers run."""

    def around(self, job: Job, *, borrowed: bool) -> Surrounding:
        """What surrounds an attempt of `job`.

        Args:
            job: the job.
            borrowed: the thread is somebody else's, a test's say, who goes on with what is set up in it.
        """

    def leave_thread(self) -> None:
        """Lets go of what belongs to this thread, in which no more attempts run."""


Around = Callable[[Job], Surrounding]


@contextlib.contextmanager
def within(surrounding: Surrounding) -> Iterator[None]:
    """Runs a block in it. What leaving it raises is logged: by then the job has done its work."""
    surrounding.__enter__()
    try:
        yield
    finally:
        try:
            surrounding.__exit__(*sys.exc_info())
        except Exception:
            logger.exception("what surrounds a job could not be cleaned up")


def around_in(environment: Environment | None, *, borrowed: bool) -> Around | None:
    """What makes the surroundings of attempts in `environment`; None: they have none."""
    return None if environment is None else lambda job: environment.around(job, borrowed=borrowed)
