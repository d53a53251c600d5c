"""The limits as an operator sees them: `pgq.limits`."""

from __future__ import annotations

from collections.abc import Callable

from pgq_sync.models import LimitRecord
from pgq_sync.storage.intake import check_name
from pgq_sync.storage.store import Limits

Records = list[LimitRecord]


class LimitBook:
    """Pauses and resumes, and tells what is limited. Pauses outlive every worker and the database's restarts."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def list(self) -> Records:
        """Every limit that a worker has declared, and every pause, with how they stand now."""
        return self._limits.records()

    def pause(self, entrypoint: str | None = None, queue: str | None = None) -> bool:
        """Has no worker start these jobs until `resume`. Jobs that run go on.

        Args:
            entrypoint: all jobs of this entrypoint.
            queue: all jobs of this queue; with an entrypoint too, only its jobs in that queue.

        Returns:
            False where they were paused already.

        Raises:
            ValueError: neither is given, or a name cannot be one.
        """
        return self._switch(self._limits.pause, entrypoint, queue)

    def resume(self, entrypoint: str | None = None, queue: str | None = None) -> bool:
        """Takes back a pause that was made with the same arguments; another one that covers the same jobs stays.

        Returns:
            False where there was none.

        Raises:
            ValueError: neither is given, or a name cannot be one.
        """
        return self._switch(self._limits.resume, entrypoint, queue)

    def _switch(self, switch: Callable[..., bool], entrypoint: str | None, queue: str | None) -> bool:
        if entrypoint is None and queue is None:
            raise ValueError("neither entrypoint nor queue is given: name what to pause or resume, or both")
        return switch(
            entrypoint=None if entrypoint is None else check_name("entrypoint", entrypoint),
            queue=None if queue is None else check_name("queue", queue),
        )
