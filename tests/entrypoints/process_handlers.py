"""Handlers that run in processes of their own, which find them here by their names."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pgq_sync import Cancelled, Context, Hold, Job, Retry, Schedule


def order(job: Job) -> Any:
    return json.loads(job.payload or b"null")


def tell_pid(job: Job) -> int:
    return os.getpid()


def describe_job(job: Job) -> list[Any]:
    return [job.id, job.entrypoint, (job.payload or b"").decode(), job.attempt, str(job.worker_id), job.headers]


def describe_tick(schedule: Schedule) -> list[Any]:
    return [schedule.name, schedule.job.id]


def double(job: Job) -> bytes:
    return 2 * (job.payload or b"")


def fail(job: Job) -> None:
    deep_inside(job)


def deep_inside(job: Job) -> None:
    try:
        raise KeyError("the first cause")
    except KeyError as error:
        raise ValueError(f"no answer to attempt {job.attempt}") from error


class Unsendable(Exception):
    """Cannot be made from its message alone, as pickle does."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")


def raise_unsendable(job: Job) -> None:
    raise Unsendable(503, "overloaded")


def return_unsendable(job: Job) -> Any:
    return lambda: None


class Unreadable:
    """Can be sent, and not be read."""

    def __reduce__(self) -> Any:
        return (_refuse, ())


def _refuse() -> None:
    raise ImportError("no such class here")


def return_unreadable(job: Job) -> Any:
    return Unreadable()


def steer(job: Job) -> str:
    kind = order(job)
    if job.attempt > 1:
        return "done"
    if kind == "exit":
        sys.exit(3)
    if kind == "interrupt":
        raise KeyboardInterrupt
    control = {"retry": Retry(0.01, "the quota"), "hold": Hold("look at it"), "cancel": Cancelled("no use")}[kind]
    try:
        raise ConnectionError("the other side")
    except ConnectionError as error:
        raise control from error


def segfault(job: Job) -> None:
    ctypes.string_at(0)


def leave(job: Job) -> None:
    os._exit(7)


def kill_itself(job: Job) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def crash_first(job: Job) -> int:
    if job.attempt == 1:
        os._exit(7)
    return job.attempt


def spin_in_c(job: Job) -> None:
    """Holds the interpreter's lock, and runs no bytecode; without a payload it is done at once."""
    if job.payload is None:
        return
    _mark(job)
    re.match(r"(a+)+$", "a" * 60 + "b")


def wait_for_gate(job: Job) -> str:
    """Says in which process it runs, and goes on when there is a gate."""
    _mark(job)
    while not _path(job, "gate").exists():
        time.sleep(0.005)
    return "passed"


def start_a_process(job: Job) -> None:
    started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    _path(job, "started").write_text(str(started.pid))
    wait_for_gate(job)


def nap(job: Job) -> int:
    time.sleep(order(job))
    return os.getpid()


def keep_the_pipe(job: Job) -> None:
    """Ends its process, and leaves one behind that holds whatever it had open."""
    if os.fork() == 0:
        _path(job, "started").write_text(str(os.getpid()))
        time.sleep(600)
    while not (_path(job, "started").exists() and _path(job, "started").read_text()):
        time.sleep(0.005)
    os.kill(os.getpid(), signal.SIGKILL)


class Holder:
    """Where a function may stand too."""

    @staticmethod
    def static(job: Job) -> str:
        return "static"

    def method(self, job: Job) -> None: ...

    def __call__(self, job: Job) -> None: ...


class Wrapper:
    """What a decorator may leave under the function's name."""

    def __init__(self, func: Callable[..., Any]) -> None:
        self.func = func

    def __call__(self, *arguments: Any) -> str:
        return "the wrapper was called"


@Wrapper
def wrapped(job: Job) -> str:
    return "the function was called"


def outer(func: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(func)
    def call(job: Job) -> str:
        return f"outer, {func(job)}"

    return call


def replaced(job: Job) -> str:
    return "replaced"


plain = replaced


def replaced(job: Job) -> str:  # type: ignore[no-redef]
    return "another one"


@outer
def decorated(job: Job) -> str:
    return "inner"


def wants_context(job: Job, context: Context) -> None: ...


def _path(job: Job, name: str) -> Path:
    return Path(order(job)) / name


def _mark(job: Job) -> None:
    marks = Path(order(job)) / "pids"
    marks.mkdir(exist_ok=True)
    with contextlib.suppress(FileExistsError):
        (marks / str(os.getpid())).touch()
