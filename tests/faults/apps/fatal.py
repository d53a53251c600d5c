"""Jobs that take their process with them, beside others that do not deserve it."""

from __future__ import annotations

import ctypes
import os
import resource

from pgq_sync import Job, PgQueuer
from tests.faults.apps.orders import Order
from tests.faults.records import Journal

_ADDRESS_SPACE = 4 * 1024**3  # bytes: some threads' stacks and much more
_STEP = 16 * 1024**2

resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
pgq = PgQueuer.from_dsn()
journal = Journal.of_environment()


@pgq.entrypoint("work")
def work(job: Job) -> None:
    with journal.run(job):
        Order.of(job).follow(job)


@pgq.entrypoint("exit")
def leave(job: Job) -> None:
    with journal.run(job):
        os._exit(7)


@pgq.entrypoint("segfault")
def segfault(job: Job) -> None:
    with journal.run(job):
        ctypes.string_at(0)


@pgq.entrypoint("memory")
def exhaust_memory(job: Job) -> None:
    taken = []
    with journal.run(job):
        while True:
            taken.append(bytearray(_STEP))
