"""What a job's payload may tell its handler."""

from __future__ import annotations

import ctypes
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pgq_sync import Hold, Job, Retry
from tests.faults.records import VARIABLE

_GLANCE = 0.01  # seconds between two looks at a gate


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """How long to run, and how to end.

    Attributes:
        seconds: how long.
        frozen: for so many seconds hold the interpreter's lock, so that no other thread of the process runs.
        gate: the first run goes on when this file is there; later ones do not wait.
        first: how the first run ends; later ones succeed.
    """

    seconds: float = 0
    frozen: int = 0
    gate: str | None = None
    first: Literal["success", "failure", "retry", "hold"] = "success"

    @classmethod
    def of(cls, job: Job) -> Order:
        return cls(**json.loads(job.payload or b"{}"))

    def follow(self, job: Job) -> None:
        """Does what was ordered."""
        time.sleep(self.seconds)
        if self.frozen:
            ctypes.PyDLL(None).sleep(self.frozen)  # a PyDLL keeps the lock, as a careless extension does
        if (self.gate or self.first != "success") and _is_first(job):
            self._end_first()

    def _end_first(self) -> None:
        while self.gate is not None and not Path(self.gate).exists():
            time.sleep(_GLANCE)
        if self.first == "retry":
            raise Retry(0, "as ordered")
        if self.first == "hold":
            raise Hold("as ordered")
        if self.first == "failure":
            raise RuntimeError("as ordered")


def _is_first(job: Job) -> bool:
    """Whether this job never ran before: not by its attempt, since one that its worker's death cut off does not count."""
    try:
        Path(f"{os.environ[VARIABLE]}.{job.id}").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
