"""Runs the command line in processes of its own, and lets tests wait for the lines that they print."""

from __future__ import annotations

import os
import pty
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tests.waiting import PATIENCE

COMMAND = (sys.executable, "-m", "pgq_sync")
Completed = subprocess.CompletedProcess


class Console:
    """A directory and an environment in which `pgq-sync` is called.

    Args:
        directory: the current directory of the calls.
        environment: its PGQ_* variables; of the test's own environment only what has nothing to do with databases stays.
    """

    def __init__(self, directory: Path, **environment: str) -> None:
        self.directory = directory
        ours = {name: value for name, value in os.environ.items() if not name.startswith("PG") and name != "DATABASE_URL"}
        self._environment = ours | {"PYTHONUNBUFFERED": "1"} | environment

    def write(self, name: str, text: str) -> None:
        """Writes a module of the application."""
        path = self.directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    def run(self, *arguments: str, stdin: str | bytes = b"", **environment: str) -> Completed[str]:
        """A call that ends by itself."""
        done = subprocess.run(
            [*COMMAND, *arguments],
            cwd=self.directory,
            env=self._environment | environment,
            input=stdin.encode() if isinstance(stdin, str) else stdin,
            capture_output=True,
            timeout=2 * PATIENCE,
            check=False,
        )
        return Completed(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())

    def output(self, *arguments: str, stdin: str | bytes = b"", **environment: str) -> str:
        """What a call prints that must succeed."""
        done = self.run(*arguments, stdin=stdin, **environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def on_terminal(self, *arguments: str, width: int) -> list[str]:
        """The lines that a call prints on a terminal of this width."""
        ours, theirs = pty.openpty()
        environment = self._environment | {"COLUMNS": str(width)}
        process = subprocess.Popen([*COMMAND, *arguments], cwd=self.directory, env=environment, stdin=theirs, stdout=theirs)
        os.close(theirs)
        with open(ours, "rb") as stream:
            printed = b""
            try:
                while chunk := stream.read1():
                    printed += chunk
            except OSError:
                pass  # how Linux says that nobody has the other side open any more
        assert process.wait(PATIENCE) == 0
        return printed.decode().splitlines()

    def refused(self, *arguments: str, code: int, **environment: str) -> str:
        """The one line by which a call that must fail says why."""
        done = self.run(*arguments, **environment)
        assert done.returncode == code, done.stdout + done.stderr
        assert done.stderr.startswith("pgq-sync: "), done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
        return done.stderr.removeprefix("pgq-sync: ").rstrip("\n")

    @contextmanager
    def start(self, *arguments: str, command: tuple[str, ...] = COMMAND, **environment: str) -> Iterator[Running]:
        """A call that goes on meanwhile; it is killed at the end if it still runs then."""
        process = subprocess.Popen(
            [*command, *arguments],
            cwd=self.directory,
            env=self._environment | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )
        running = Running(process)
        try:
            yield running
        finally:
            running.finish()


class Running:
    """A process and the lines that it has printed so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.stdout = Lines(process.stdout)
        self.stderr = Lines(process.stderr)

    @property
    def pid(self) -> int:
        return self._process.pid

    def signal(self, number: signal.Signals, *, group: bool = False) -> None:
        """Sends a signal; with `group` as a terminal does, to whatever the process has started in its group too."""
        (os.killpg if group else os.kill)(self.pid, number)

    def ended(self) -> int:
        """Waits for the end; the exit code."""
        code = self._process.wait(PATIENCE)
        self.stdout.close()
        self.stderr.close()
        return code

    def seconds_to_end(self) -> float:
        """How long it takes from now to the end."""
        started = time.monotonic()
        self._process.wait(PATIENCE)
        return time.monotonic() - started

    def finish(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self.ended()


class Lines:
    """Reads a stream in a thread, so that its writer never waits."""

    def __init__(self, stream: IO[str] | None) -> None:
        assert stream is not None
        self.all: list[str] = []
        self._stream = stream
        self._coming: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def wait_for(self, text: str) -> str:
        """The next line in which `text` stands; fails the test when the stream ends or it does not come."""
        while True:
            try:
                line = self._coming.get(timeout=PATIENCE)
            except queue.Empty:
                line = None
            assert line is not None, f"{text!r} was not printed, but:\n{self}"
            if text in line:
                return line

    def wait_for_end(self) -> None:
        """Returns when no process holds the stream any more, what the call has started included."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), f"somebody still writes, so far:\n{self}"

    def close(self) -> None:
        self._thread.join(PATIENCE)
        self._stream.close()

    def __str__(self) -> str:
        return "".join(self.all)

    def _read(self) -> None:
        for line in self._stream:
            self.all.append(line)
            self._coming.put(line)
        self._coming.put(None)
