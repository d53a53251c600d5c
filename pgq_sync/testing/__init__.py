"""What tests of an application need. These are its public names; the pytest fixtures are in `fixtures`."""

from pgq_sync.testing.assertions import assert_enqueued, assert_not_enqueued, enqueued
from pgq_sync.testing.clock import MovableClock, clock
from pgq_sync.testing.overriding import in_memory, on_connection, on_database
from pgq_sync.testing.running import drain, make_job, run_job, tick
from pgq_sync.testing.waiting import wait_until

__all__ = [
    "MovableClock",
    "assert_enqueued",
    "assert_not_enqueued",
    "clock",
    "drain",
    "enqueued",
    "in_memory",
    "make_job",
    "on_connection",
    "on_database",
    "run_job",
    "tick",
    "wait_until",
]
