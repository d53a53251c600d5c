"""Installs, upgrades, checks and removes the tables. Every change is one transaction under an advisory lock."""

from __future__ import annotations

import dataclasses
import itertools
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, get_args

import psycopg

from pgq_sync.errors import ConfigError, SchemaError
from pgq_sync.storage.connections import Connections
from pgq_sync.storage.database import PsycopgSession, Session, atomic
from pgq_sync.storage.failures import lacking
from pgq_sync.storage.names import Names, literal, quote
from pgq_sync.storage.statements import migrations, statements

Durability = Literal["volatile", "balanced", "durable"]
ROLES = ("producer", "worker", "operator", "watcher")
"""Who enqueues, who runs jobs, who looks after them, and who waits for them to end."""


class Schema:
    """The tables of one installation; `pgq.schema` and the command line's install, upgrade, verify and so on.

    Args:
        connections: where to connect; each operation opens and closes a connection of its own.
        names: which installation.
    """

    def __init__(self, connections: Connections, names: Names) -> None:
        self._connections = connections
        self._names = names
        self._sql = statements(names)

    def install(self) -> list[str]:
        """Makes everything that is not there yet; on an installed schema the same as `upgrade`.

        Returns:
            The migrations that were run; empty if there was nothing to do.
        """
        return self._migrate(create=True)

    def upgrade(self, *, plan: bool = False) -> list[str]:
        """Runs the migrations that are missing, while workers go on running.

        Args:
            plan: only tell which ones would run.

        Raises:
            SchemaError: nothing is installed, or something newer than this version of pgq-sync knows.
        """
        if plan:
            with self._session() as session:
                return [f"{each.version:04d} {each.title}" for each in migrations() if each.version > self._installed(session)]
        return self._migrate(create=False)

    def uninstall(self) -> None:
        """Drops everything, jobs and history included; not the schema that held it."""
        with self._changing() as session:
            uninstall(session, self._names)

    def verify(self) -> list[str]:
        """Compares every table, column, index, constraint, trigger and function with what a fresh install makes.

        The fresh install is made in a schema of its own and rolled back: its maker needs the right to create one.

        Returns:
            The differences, one line each; empty if there are none.

        Raises:
            SchemaError: nothing is installed.
        """
        with self._session() as session:
            self._installed(session)
            schema = str(session.run(self._sql["schema_of_version"])[0][0])
            expected = self._fresh_catalog(session, schema)
            with atomic(session):
                return _differences(expected=expected, actual=self._catalog(session, schema))

    def require(self) -> None:
        """Raises SchemaError, in one line that names the command to run, unless the schema is this version's."""
        # Connected apart: where that fails it fails at once, while a pool would go on trying.
        with self._session() as session:
            installed = self._installed(session)
        known = migrations()[-1].version
        if installed < known:
            raise SchemaError(
                f"the schema has version {installed}, this pgq-sync needs {known}: run `{self._names.command('upgrade')}`"
            )

    def durability(self, mode: Durability | None = None) -> Durability:
        """Tells, and with `mode` sets, what a crash of the server may cost.

        Args:
            mode: "durable": nothing; "balanced": the history of finished jobs; "volatile": the queue too.
                Setting it rewrites the tables and makes everybody wait meanwhile.

        Raises:
            ConfigError: there is no such mode.
        """
        if mode is not None and mode not in get_args(Durability):
            raise ConfigError(f"durability {mode!r}: volatile, balanced or durable is accepted")
        with self._changing() as session:
            self._installed(session)
            if mode is not None:
                session.run(statements(self._names)["durability"].replace("{durability_literal}", literal(mode)))
            current: Durability = session.run(self._sql["current_durability"])[0][0]
            return current

    def autovac(self, *, rollback: bool = False) -> None:
        """Sets autovacuum as it suits a queue (install does so too), or with `rollback` as the server has it."""
        with self._changing() as session:
            self._installed(session)
            session.run(self._sql["autovac_rollback" if rollback else "autovac"])

    def _migrate(self, *, create: bool) -> list[str]:
        with self._changing() as session:
            if create or is_installed(session, self._names):
                return bring_up_to_date(session, self._names)
            raise SchemaError(lacking(self._names))

    def _installed(self, session: Session) -> int:
        return installed_version(session, self._names)

    def _fresh_catalog(self, session: Session, schema: str) -> dict[str, str]:
        """What a fresh install looks like, told as if it were in `schema`."""
        scratch = f"pgq_sync_verify_{secrets.token_hex(8)}"  # stands nowhere else, and needs no quotes
        names = dataclasses.replace(self._names, schema=scratch)
        session.run("begin")
        try:
            # The channel is derived from the schema's name, and would differ.
            session.run(_script(names, 0).replace(names.channel, self._names.channel))
            catalog = self._catalog(session, scratch)
        except psycopg.errors.InsufficientPrivilege as error:
            raise SchemaError(f"verify makes a fresh schema to compare with, and rolls it back: {error}") from error
        finally:
            session.run("rollback")
        bare = schema[1:-1].replace('""', '"') if schema.startswith('"') else schema
        for scratched, written in ((f'"{scratch}".', self._names.schema_dot), (f"'{scratch}'", literal(bare)), (scratch, schema)):
            catalog = {key: text.replace(scratched, written) for key, text in catalog.items()}
        return catalog

    def _catalog(self, session: Session, schema: str) -> dict[str, str]:
        session.run(self._sql["qualify_everything"])
        params = {"schema": schema, "prefix": self._names.prefix}
        return {row[0]: row[1] for row in session.run(self._sql["catalog"], params)}

    @contextmanager
    def _session(self) -> Iterator[Session]:
        connection = self._connections.direct()
        try:
            yield PsycopgSession(connection)
        finally:
            connection.close()

    @contextmanager
    def _changing(self) -> Iterator[Session]:
        with self._session() as session, atomic(session):
            session.run(self._sql["lock_schema"])
            yield session


def is_installed(session: Session, names: Names) -> bool:
    """Whether there are tables, of whatever version."""
    return bool(session.run(statements(names)["is_installed"])[0][0])


def installed_version(session: Session, names: Names) -> int:
    """The version of the tables that are there.

    Raises:
        SchemaError: there are none, or something newer than this version of pgq-sync knows.
    """
    known = migrations()[-1].version
    try:
        rows = session.run(statements(names)["installed_version"])
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        raise SchemaError(lacking(names)) from None
    installed = int(rows[0][0]) if rows else 0
    if installed > known:
        raise SchemaError(
            f"the schema has version {installed}, this pgq-sync knows only {known}: "
            "upgrade the package, `pip install -U pgq-sync`"
        )
    return installed


def bring_up_to_date(session: Session, names: Names) -> list[str]:
    """Runs the migrations that are missing, all of them where nothing is installed, in the session's transaction.

    Returns:
        Those that were run.

    Raises:
        SchemaError: something newer is installed than this version of pgq-sync knows.
    """
    session.run(statements(names)["lock_schema"])
    installed = installed_version(session, names) if is_installed(session, names) else 0
    session.run(_script(names, installed))
    return [f"{each.version:04d} {each.title}" for each in migrations() if each.version > installed]


def uninstall(session: Session, names: Names) -> None:
    """Drops everything, in the session's transaction."""
    session.run(statements(names)["lock_schema"])
    session.run(statements(names)["drop_all"])


def script(action: Literal["install", "upgrade", "uninstall"], names: Names, installed: int = 0) -> str:
    """The SQL of an action, for those who run it themselves. Never connects; the same input gives the same text.

    Args:
        action: what is to be done.
        names: which installation.
        installed: for "upgrade": the version that is there.
    """
    return f"begin;\n{changes(action, names, installed)}commit;\n"


def changes(
    action: Literal["install", "upgrade", "uninstall"], names: Names, installed: int = 0, version: int | None = None
) -> str:
    """What `script` has between begin and commit, for those whose transactions are somebody else's.

    Args:
        action, names, installed: as of `script`.
        version: no further than to this one.
    """
    lock = statements(names)["lock_schema"] + ";\n"
    body = statements(names)["drop_all"] if action == "uninstall" else _script(names, installed, version)
    return f"{lock}{body.rstrip()}\n"


def grants(names: Names, **roles: str) -> str:
    """The SQL that gives roles what they need, by what they do: see ROLES. Never connects."""
    return "".join(_grants(names, kind, roles[kind]) for kind in ROLES if kind in roles)


def _grants(names: Names, kind: str, role: str) -> str:
    usage = f"grant usage on schema {quote(names.schema)} to {quote(role)};\n" if names.schema else ""
    return usage + statements(names)[f"grants_{kind}"].replace("{role}", quote(role)) + "\n"


def _script(names: Names, installed: int, version: int | None = None) -> str:
    """The statements that lead from version `installed` (0: nothing) to `version`, by default the latest."""
    sql = statements(names)
    parts = [names.fill("{schema_definition}")] if installed == 0 else []
    for migration in migrations():
        if installed < migration.version <= (version or migration.version):
            record = sql["record_version"].replace("%(version)s", str(migration.version))
            parts += [names.fill(migration.sql).rstrip(), record + ";"]
    if installed == 0:
        parts += [sql["autovac"] + ";", sql["first_partitions"] + ";"]
    return "\n\n".join(part for part in parts if part) + "\n"


def _differences(*, expected: Mapping[str, str], actual: Mapping[str, str]) -> list[str]:
    lines = [f"missing: {key}" for key in expected if key not in actual]
    lines += [f"unexpected: {key}" for key in actual if key not in expected]
    for key, text in expected.items():
        if key in actual and actual[key] != text and not _only_durability(key, text, actual[key]):
            wanted, found = _first_difference(text, actual[key])
            lines.append(f"different: {key}: expected {wanted!r}, found {found!r}")
    return lines


def _first_difference(expected: str, found: str) -> tuple[str, str]:
    """The first lines that differ."""
    pairs = itertools.zip_longest(expected.splitlines(), found.splitlines(), fillvalue="")
    return next(((one.strip(), other.strip()) for one, other in pairs if one != other), (expected, found))


def _only_durability(key: str, expected: str, actual: str) -> bool:
    return key.startswith("table ") and expected.replace(" p ", " u ", 1) == actual
