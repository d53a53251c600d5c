"""What the listener needs of a store, and what a store needs to know of a worker's own limits."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

from pgq_sync.models import Claim, Claimed, Peers, Recovered, Room


class LocalLimits(Protocol):
    """What one worker knows of the limits, for its claimer. Listener thread."""

    @property
    def names(self) -> Collection[str]:
        """The entrypoints that this worker declares as limited."""

    def room(self, entrypoint: str) -> int:
        """How many more of its jobs may start here now."""

    def next_room(self, entrypoint: str) -> float:
        """In how many seconds there will be room again; 0: when one of its jobs has ended."""

    def learn(self, concurrency_limits: Mapping[str, int]) -> None:
        """Takes over how many may run at once over the fleet, as the store has it: of each limited entrypoint; 0: any."""

    def take(self, entrypoint: str, jobs: int) -> None:
        """Counts jobs that were claimed with care; they may be of entrypoints that this worker does not know as limited."""


class Claimer(Protocol):
    """The listener thread's side of the store; only `wake` and `cancel` may be called from other threads."""

    peers: Peers
    """Set after each beat: who else would look for the same jobs."""

    wants_slot: bool
    """Whether the last claim left jobs for want of a slot in which they would start at once."""

    exclusive: bool
    """Whether the store sees by this claimer that its worker lives, and nothing older can still claim for that worker."""

    hears: bool
    """Whether jobs are noticed as they are enqueued, and not only by looking now and then."""

    @property
    def held_back(self) -> bool:
        """Whether jobs are due that wait for their entrypoint's limit."""

    def claim(self, room: Room, *, thorough: bool = False) -> Claimed:
        """Claims due jobs, as many as there is room for; larger priorities first, and within one the earliest due.

        Args:
            room: for how many.
            thorough: look everywhere, however recently that was done, limits included.
        """

    def recover(self, claims: Sequence[Claim]) -> Recovered:
        """Puts back what was claimed without the answer having arrived; what somebody has locked is left for the next time.

        Args:
            claims: what the worker knows to hold.
        """

    def wait(self, *, for_room: bool = False, until: float = math.inf) -> None:
        """Blocks until there may be something to claim, or `wake` was called since the last `arm`.

        Args:
            for_room: there is no room to claim for: only `wake` ends the wait, or a limit that has room again (or what
                the store must attend to).
            until: when it ends at the latest, by the monotonic clock.
        """

    def arm(self) -> None:
        """Forgets earlier calls of `wake`. To be called before looking, never after: a wake-up would be lost."""

    def ended(self, entrypoints: Iterable[str]) -> None:
        """Limited jobs have ended, one name each: their limits may have room again. Listener thread, before it claims."""

    def wake(self) -> None:
        """Ends the wait. Cheap, and safe from any thread."""

    def cancel(self) -> None:
        """Cuts off a claim that waits for the store, from any thread."""
