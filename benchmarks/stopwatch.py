"""How long jobs wait: the payload carries the time before the enqueue call, the handler compares it with its own.

The monotonic clock is one for all processes of a machine.
"""

from __future__ import annotations

import queue
import time

from pgq_sync import Job, PgQueuer

ENTRYPOINT = "stopwatch"


def stamp() -> bytes:
    """The payload of a job that is enqueued right now."""
    return str(time.monotonic_ns()).encode()


def elapsed(payload: bytes | None) -> int:
    """The nanoseconds since `stamp` made the payload."""
    return time.monotonic_ns() - int(payload or 0)


def serve_stopwatch(pgq: PgQueuer) -> queue.SimpleQueue[int]:
    """Registers the handler, and returns where it puts the waits of its jobs, in nanoseconds."""
    waits: queue.SimpleQueue[int] = queue.SimpleQueue()

    @pgq.entrypoint(ENTRYPOINT)
    def note(job: Job) -> None:
        waits.put(elapsed(job.payload))

    return waits
