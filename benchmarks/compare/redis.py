"""A Redis server for the contestants whose jobs lie there."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.compare.environments import Unavailable

_PATIENCE = 10.0  # seconds
_LOOK_AGAIN = 0.02  # seconds


@contextmanager
def server() -> Iterator[str]:
    """The URL of a new one, at the settings that Redis has without a configuration file; ended on leaving.

    Raises:
        Unavailable: it cannot be had on this machine, or does not start.
    """
    program = _program()
    with tempfile.TemporaryDirectory(prefix="pgq-sync-redis-") as directory:
        port, log = _free_port(), Path(directory) / "log"
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", directory, "--logfile", str(log)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _wait(process, port, log)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            _end(process)


def version() -> str:
    """Of the server, and how little it writes."""
    said = subprocess.run([_program(), "--version"], capture_output=True, text=True, check=True).stdout
    return f"{said.split('v=')[-1].split()[0]} (no configuration file: snapshots at times, no append-only file)"


def _program() -> str:
    if (found := shutil.which("redis-server")) is None and os.geteuid() == 0 and shutil.which("apt-get"):
        _apt_get("update")
        _apt_get("install", "-y", "redis-server")
        found = shutil.which("redis-server")
    if found is None:
        raise Unavailable("redis-server is not on the PATH; install it, for example by `apt-get install redis-server`")
    return found


def _apt_get(*arguments: str) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(["apt-get", "-qq", *arguments], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise Unavailable(f"`apt-get {' '.join(arguments)}` has failed: {done.stderr.strip()[-300:]}")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Until it answers."""
    deadline = time.monotonic() + _PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            if connection.recv(16).startswith(b"+PONG"):
                return
        time.sleep(_LOOK_AGAIN)
    said = log.read_text(errors="replace")[-300:] if log.exists() else "nothing in its log"
    raise Unavailable(f"redis-server does not answer on port {port}: {said}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
