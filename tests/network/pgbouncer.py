"""Debian's PgBouncer in front of a server: transaction mode, few server connections, on a socket in a folder of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.waiting import wait_until

_SERVER = ("host", "port", "user", "password")
_CONFIG = """
[databases]
* = {server}
[pgbouncer]
pool_mode = transaction
default_pool_size = {pool_size}
unix_socket_dir = {folder}
listen_port = 6432
auth_type = any
max_client_conn = 200
logfile = {folder}/log
{user}
"""


@contextmanager
def bouncer(dsn: str, pool_size: int = 3) -> Iterator[str]:
    """The DSN of the same database through a PgBouncer that has `pool_size` connections to the server."""
    binary = _binary()
    folder = Path(tempfile.mkdtemp(prefix="pgq-sync-bouncer-"))
    try:
        config = _written(folder, dsn, pool_size)
        with subprocess.Popen([binary, "--quiet", config], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                through = make_conninfo(dsn, host=str(folder), port=6432, password=None)
                wait_until(lambda: process.poll() is not None or _answers(through))
                assert process.poll() is None, (folder / "log").read_text()
                yield through
            finally:
                process.kill()
    finally:
        shutil.rmtree(folder)


def _binary() -> str:
    binary = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if binary is not None:
        return binary
    missing = "pgbouncer is not installed: apt-get install pgbouncer"
    if os.environ.get("CI") == "true":
        pytest.fail(missing)
    pytest.skip(missing)


def _written(folder: Path, dsn: str, pool_size: int) -> Path:
    server = {key: value for key, value in conninfo_to_dict(dsn).items() if key in _SERVER and value}
    user = ""
    if os.geteuid() == 0:
        # It refuses to run as root, and must be able to enter the folder of the server's socket.
        socket_folder = Path(str(server.get("host", "")))
        name = socket_folder.owner() if socket_folder.is_absolute() else "nobody"
        user = f"user = {name}"
        shutil.chown(folder, name)
    config = folder / "config"
    config.write_text(
        _CONFIG.format(
            server=" ".join(f"{key}={value}" for key, value in server.items()), pool_size=pool_size, folder=folder, user=user
        )
    )
    config.chmod(0o644)
    return config


def _answers(dsn: str) -> bool:
    try:
        with closing(psycopg.connect(dsn)):
            return True
    except psycopg.OperationalError:
        return False
