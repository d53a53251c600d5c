"""A PgBouncer of a test's own, in transaction mode: Debian's package."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.faults.patience import eventually
from tests.faults.servers import free_port

_CONFIGURATION = """
[databases]
* = host={host} port={port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own_port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 20
max_client_conn = 500
ignore_startup_parameters = extra_float_digits
server_round_robin = 1
"""


@contextmanager
def pgbouncer(dsn: str) -> Iterator[str]:
    """The DSN of the same database behind a PgBouncer, which is gone on leaving."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    assert program is not None, "apt-get install pgbouncer"
    target, own_port = conninfo_to_dict(dsn), free_port()
    directory = Path(tempfile.mkdtemp(prefix="pgq-faults-"))
    directory.chmod(0o755)
    configuration = directory / "pgbouncer.ini"
    text = _CONFIGURATION.format(host=target["host"], port=target["port"], own_port=own_port)
    # Of one session per name: auth_type "any" logs everybody in as this user.
    configuration.write_text(text.replace("port={port}".format(**target), "port={port} user={user}".format(**target)))
    options = ["-u", "nobody"] if os.geteuid() == 0 else []
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen([program, *options, str(configuration)], stdout=log, stderr=log, start_new_session=True)
    try:
        pooled = make_conninfo(dsn, host="127.0.0.1", port=own_port)
        eventually(lambda: _answers(pooled), "PgBouncer answers")
        yield pooled
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)
        shutil.rmtree(directory, ignore_errors=True)


def _answers(dsn: str) -> bool:
    with closing(psycopg.connect(dsn)) as connection:
        return connection.execute("select true").fetchone() == (True,)
