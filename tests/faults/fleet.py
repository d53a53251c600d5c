"""Worker processes that can be killed, stopped, continued and replaced; each is noted when it dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.faults.patience import eventually
from tests.faults.scale import SCALE

ROOT = Path(__file__).parents[2]
PUT_BACK = 3  # a worker's exit code where jobs had to be put back


class Member:
    """One worker, in a process of its own; where it is revived, in one after the other.

    Args:
        command: of the process.
        environment: of the process.
        log: the file for what it prints.
        revive: start it again when it ends without having been asked to.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path, revive: bool) -> None:
        self.deaths: dict[int, int] = {}  # time_ns by pid
        self.log = log
        self._command = command
        self._environment = environment
        self._revive = revive
        self._process = self._spawn()
        self._watcher = threading.Thread(target=self._watch, name=f"watch {log.stem}", daemon=True)
        self._watcher.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def printed(self) -> str:
        """What it has written to its standard streams."""
        return self.log.read_text(errors="replace")

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def wait_for(self, text: str, seconds: float = SCALE.patience) -> None:
        """Waits until it has printed this."""
        eventually(lambda: text in self.printed or not self.alive, f"{text!r} in the log of {self.log.stem}")
        assert text in self.printed, self.printed

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def ended(self, seconds: float = SCALE.patience) -> int:
        """Waits for the end; the exit code."""
        code = self._process.wait(seconds)
        self._watcher.join(SCALE.patience)
        return code

    def kill(self) -> None:
        """Ends the process as the system does when memory is short, and waits until it is gone."""
        self._revive = False
        try:
            os.killpg(self.pid, signal.SIGKILL)  # with whatever it has started
        except ProcessLookupError:
            pass  # gone by itself
        self.ended()

    def stop(self, seconds: float = SCALE.patience) -> int:
        """Asks it to stop, and waits; the exit code."""
        self._revive = False
        if self.alive:
            self.signal(signal.SIGTERM)
        return self.ended(seconds)

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _watch(self) -> None:
        while True:
            self._process.wait()
            self.deaths[self._process.pid] = time.time_ns()
            if not self._revive or self._process.returncode in (0, PUT_BACK):
                return
            self._process = self._spawn()


class Fleet:
    """All workers of a test.

    Args:
        directory: for what they print.
        environment: their PGQ_* variables and the like.
    """

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        ours = {name: value for name, value in os.environ.items() if not name.startswith("PG") and name != "DATABASE_URL"}
        self.members: list[Member] = []
        self._directory = directory
        self._environment = {**ours, "PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1", **SCALE.environment, **environment}

    def launch(self, app: str, *options: str, revive: bool = False, **environment: str) -> Member:
        """Starts a worker of `tests/faults/apps/{app}.py`, and returns at once."""
        log = self._directory / f"worker-{len(self.members) + 1}.log"
        command = [sys.executable, "-m", "pgq_sync", "worker", f"tests.faults.apps.{app}:pgq", *options]
        member = Member(command, self._environment | environment, log, revive)
        self.members.append(member)
        return member

    def start(self, app: str, *options: str, count: int = 1, revive: bool = False, **environment: str) -> list[Member]:
        """Starts so many workers, and waits until they work."""
        members = [self.launch(app, *options, revive=revive, **environment) for _ in range(count)]
        for member in members:
            member.wait_for(" started: ")
        return members

    def start_one(self, app: str, *options: str, revive: bool = False, **environment: str) -> Member:
        member = self.launch(app, *options, revive=revive, **environment)
        member.wait_for(" started: ")
        return member

    @property
    def deaths(self) -> dict[int, int]:
        """When which process died, in nanoseconds by pid."""
        return {pid: at for member in self.members for pid, at in member.deaths.items()}

    def stop(self) -> None:
        """Ends all that still work, in good order; each must end cleanly."""
        living = [member for member in self.members if member.alive]
        for member in living:
            member.wait_for(" started: ")  # until then the signal would end it as it ends any process
            member.signal(signal.SIGTERM)
        codes = {member.log.stem: member.ended() for member in living}
        assert set(codes.values()) <= {0}, f"exit codes {codes}\n{self.report()}"

    def kill(self) -> None:
        for member in self.members:
            member.kill()

    def report(self) -> str:
        """The end of what each printed."""
        return "\n".join(f"--- {member.log.stem}\n{member.printed[-3_000:]}" for member in self.members)
