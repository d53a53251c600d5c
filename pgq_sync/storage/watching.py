"""What a watcher needs of a store, to learn that jobs have ended."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from pgq_sync.models import Completion, JobId


@dataclass(frozen=True, slots=True)
class Notice:
    """What a lookout has heard."""

    kind: Literal["ended", "removed"]  # they have ended; or a person has deleted what was remembered of them
    ids: Sequence[int] | None  # None: it may be anything


@dataclass(frozen=True, slots=True)
class Looked:
    """What has become of jobs, those left out that are to run, or run."""

    ended: Sequence[Completion]
    nowhere: Sequence[JobId]  # neither unfinished nor remembered


class Lookout(Protocol):
    """One watcher's side of the store. Its own thread uses it; only `cut_off` is for others."""

    hears: bool
    """Whether ends are told as they happen, and not only seen by looking now and then."""

    def register(self, ids: Collection[int]) -> set[JobId]:
        """Has the ends of these jobs told from now on, until they are looked at and have ended. Again does no harm.

        Returns:
            Those that are unfinished.
        """

    def look(self, ids: Collection[int]) -> Looked:
        """What has become of these jobs."""

    def leave(self, ids: Collection[int]) -> None:
        """Nobody wants to know of these jobs any more."""

    def heard(self) -> Sequence[Notice]:
        """What was told since the last call. To be asked before each wait."""

    def wait(self, until: float = math.inf) -> None:
        """Blocks until something is told, the watcher is woken, or it is `until` by the monotonic clock."""

    def cut_off(self) -> None:
        """Ends a call that waits for the store, with an error. From any thread; never raises, and takes a moment at most."""
