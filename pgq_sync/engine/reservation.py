"""A slot that keeps itself free for a limited job, while jobs that were claimed ahead fill all others.

A limited job must start as soon as it is claimed: its token would else be spent long before it starts.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence

from pgq_sync.models import Claim


class Reservation:
    """Between the listener, which wants a slot, and the slots' threads, of which the next one to finish waits for a job.

    Args:
        on_kept: called, in a slot's thread, when it waits.
    """

    def __init__(self, on_kept: Callable[[], None]) -> None:
        self.wanted = False  # read by the slots' threads before each job, without the lock
        self._on_kept = on_kept
        self._closed = False
        self._kept = 0  # slots that wait
        self._promised: queue.SimpleQueue[Claim | None] = queue.SimpleQueue()  # for them: a job, or leave to go on
        self._lock = threading.Lock()

    @property
    def kept(self) -> int:
        """How many slots wait for a job."""
        return self._kept

    def want(self) -> None:
        """Has the next slot that finishes wait."""
        with self._lock:
            self.wanted = not self._closed

    def wait(self) -> Claim | None:
        """The job for this slot; None where another slot was first, or there is none. Slots' threads."""
        with self._lock:
            if not self.wanted:
                return None
            self.wanted = False
            self._kept += 1
        self._on_kept()
        return self._promised.get()

    def fill(self, claims: Sequence[Claim]) -> Sequence[Claim]:
        """Gives claims to the slots that wait, lets the others of those go on, and returns what is left of the claims.

        From then on no slot waits, until one is wanted again.
        """
        with self._lock:
            kept, self._kept = self._kept, 0
            self.wanted = False
        for claim in claims[:kept]:
            self._promised.put(claim)
        for _ in range(kept - len(claims)):
            self._promised.put(None)
        return claims[kept:]

    def close(self) -> None:
        """Lets every slot go on, from now on too."""
        with self._lock:
            self._closed = True
        self.fill(())
