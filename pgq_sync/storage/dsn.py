"""Which database, said in libpq's words: found in the environment, completed, and never shown where it may hold a password."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgq_sync.errors import ConfigError

# A peer that vanished is noticed within half a minute, also while it owes the acknowledgement of something sent; and
# an unreachable one does not hang a start.
_PATIENCE = {
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
    "connect_timeout": 10,
}
_LIBPQ_VARIABLES = ("PGHOST", "PGHOSTADDR", "PGSERVICE", "PGDATABASE", "PGPORT")
# What `psycopg.connect` takes beside libpq's parameters.
_PSYCOPG_OPTIONS = {"autocommit", "row_factory", "cursor_factory", "prepare_threshold", "context"}


def find_dsn(given: str | None, environ: Mapping[str, str] | None = None) -> str:
    """The DSN to use: the given one, else `PGQ_DSN`, else `DATABASE_URL`, else libpq's own variables.

    Raises:
        ConfigError: none of them says where the database is.
    """
    environ = os.environ if environ is None else environ
    dsn = given or environ.get("PGQ_DSN") or environ.get("DATABASE_URL")
    if not dsn and not any(environ.get(name) for name in _LIBPQ_VARIABLES):
        raise ConfigError(
            "no database is named: pass a dsn, or set PGQ_DSN, DATABASE_URL or libpq's variables (PGHOST, PGDATABASE ...), "
            "or try it without a server of your own: pgq-sync worker ... --embedded"
        )
    return dsn or ""


def complete_dsn(dsn: str, role: str) -> str:
    """`dsn` with our patience, UTF-8, and a name that tells in pg_stat_activity who this is; what it sets itself stays.

    Raises:
        ConfigError: the DSN cannot be parsed.
    """
    parameters = read_dsn(dsn, _origin(dsn, role))
    # Without an encoding, a database in SQL_ASCII would answer with bytes for text.
    ours = {"application_name": f"pgq-sync {role}", "client_encoding": "UTF8"}
    return make_conninfo("", **(ours | _PATIENCE | parameters))


def read_dsn(dsn: str, origin: str) -> dict[str, Any]:
    """libpq's parameters in a DSN; `origin` is how errors name it.

    Raises:
        ConfigError: the DSN cannot be parsed.
    """
    try:
        # SQLAlchemy's way to name a driver: postgresql+psycopg://
        parameters = conninfo_to_dict(re.sub(r"^(postgres(?:ql)?)\+\w+://", r"\1://", dsn))
        # An @ in the password that is not percent-encoded: libpq takes what follows it for the host, and would show it.
        if "@" in str(parameters.get("host", ""))[1:]:  # at its beginning it names an abstract socket
            raise ValueError("@ in host")
        return parameters
    except (psycopg.ProgrammingError, ValueError):
        # libpq's own message would quote a part of the DSN, perhaps the password.
        raise ConfigError(
            f"{origin}: the DSN cannot be parsed: write postgresql://user:password@host:5432/database, "
            "special characters in it percent-encoded, or host=... dbname=... user=..."
        ) from None


def _origin(dsn: str, role: str) -> str:
    """Where a DSN that cannot be parsed comes from: it may have passed through settings, but is the same text."""
    given = "listen_dsn" if role == "listener" else "dsn"
    return next((name for name in ("PGQ_DSN", "DATABASE_URL", "PGQ_LISTEN_DSN") if os.environ.get(name) == dsn), given)


def dsn_of_connection(connection: psycopg.Connection[Any]) -> str:
    """The DSN by which `connection` was opened."""
    info = connection.info
    return make_conninfo("", **(info.get_parameters() | {"password": info.password or None}))


def split_options(conninfo: str, kwargs: Mapping[str, Any] | None) -> tuple[str, dict[str, Any]]:
    """Takes apart what a psycopg_pool connects with: the DSN, and the options that are psycopg's own."""
    given = kwargs or {}
    dsn = make_conninfo(conninfo, **{key: value for key, value in given.items() if key not in _PSYCOPG_OPTIONS})
    return dsn, {key: value for key, value in given.items() if key in _PSYCOPG_OPTIONS}
