"""The other process: runs one job after the other for the worker that started it, and ends with that."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import multiprocessing.connection
import os
import pickle
import signal
import sys
import threading
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any

from pgq_sync.entrypoints.context import Context
from pgq_sync.entrypoints.process.answers import answered
from pgq_sync.entrypoints.process.references import unpack
from pgq_sync.models import Job
from pgq_sync.settings import Settings
from pgq_sync.storage.producer import Producer

SIGNALS = (signal.SIGINT, signal.SIGTERM)
READY = b""  # in place of an answer, once
GOODBYE = b""  # in place of a job


def serve(connection: Connection[Any, Any], work: bytes) -> None:
    """The process: until it is told goodbye, or nobody is there any more."""
    _ignore_signals()
    _end_with_parent()
    with contextlib.suppress(Exception):
        _import(work)  # imported before the first job's time runs; a job will tell what is wrong
    try:
        connection.send_bytes(READY)
        while (job := connection.recv_bytes()) != GOODBYE:
            connection.send_bytes(run(work, job))
    except (EOFError, OSError):
        pass  # the worker is gone


def run(work: bytes, job: bytes) -> bytes:
    """Runs a job, in whatever process; the answer."""
    return answered(functools.partial(_call, work, job))


def _call(packed: bytes, job: bytes) -> Any:
    called, wants_result, surround = pickle.loads(packed)  # noqa: S301  from the worker
    claimed: Job = pickle.loads(job)  # noqa: S301
    with contextlib.nullcontext() if surround is None else surround():
        value = unpack(called)(claimed, Context(claimed, {}, Producer(_no_intake, Settings, _no_queue)))
    return value if wants_result else None


def _import(work: bytes) -> None:
    called, _, surround = pickle.loads(work)  # noqa: S301  from the worker
    with contextlib.nullcontext() if surround is None else surround():
        unpack(called)


def _no_intake() -> Any:
    raise RuntimeError("a job in a process of its own has no context to enqueue with: use pgq.enqueue()")


def _no_queue(name: str) -> None:
    return None


def _ignore_signals() -> None:
    """The worker decides when a job ends; signals to a whole group or service reach this process as well."""
    for number in SIGNALS:
        # Not SIG_IGN: what a job starts would ignore them as well.
        signal.signal(number, _ignore)
    if sys.platform != "win32":
        os.setpgid(0, 0)  # so that it can be killed with whatever it has started
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _ignore(number: int, frame: FrameType | None) -> None:
    pass


def _end_with_parent() -> None:
    """Has the process end when the worker's does, be it by SIGKILL."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    if sys.platform == "linux":
        # By the system, since a call into C may keep every thread from running: SIGIO ends whoever does not handle it.
        import fcntl  # not everywhere

        fcntl.fcntl(parent.sentinel, fcntl.F_SETOWN, -os.getpid())  # the whole group
        fcntl.fcntl(parent.sentinel, fcntl.F_SETFL, fcntl.fcntl(parent.sentinel, fcntl.F_GETFL) | fcntl.FASYNC)
    threading.Thread(target=_wait_for_end, args=(parent.sentinel,), name="pgq-parent", daemon=True).start()


def _wait_for_end(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    if sys.platform != "win32":
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
