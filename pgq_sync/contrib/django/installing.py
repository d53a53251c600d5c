"""The migration operation that runs pgq-sync's own migrations: `manage.py migrate` makes what `pgq-sync install` does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import DatabaseError, router
from django.db.migrations.operations.base import Operation

from pgq_sync.contrib.django.configuration import configuration
from pgq_sync.contrib.django.tables import names
from pgq_sync.errors import SchemaError
from pgq_sync.storage.database import DjangoSession
from pgq_sync.storage.names import Names
from pgq_sync.storage.schema import bring_up_to_date, changes, installed_version, is_installed, uninstall

_FORBIDDEN = "42501"


class BringUpToDate(Operation):
    """Brings the tables of PGQ_SYNC's prefix and schema to this pgq-sync's version, in the database that it names.

    Tables that are there already, from `pgq-sync install` say, are left as they are if they have this version. Backwards,
    the first one drops them; the others leave them, since an older pgq-sync works with newer tables or says that it cannot.

    Args:
        version: that it is about. A later one is as good: all versions are run at once where there was an earlier one.
    """

    reversible = True
    reduces_to_sql = True

    def __init__(self, version: int) -> None:
        self.version = version

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        return type(self).__name__, [], {"version": self.version}

    def state_forwards(self, app_label: str, state: Any) -> None:
        """The models are unmanaged."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        if not _concerns(app_label, schema_editor):
            return
        if schema_editor.collect_sql:
            _print(schema_editor, changes("upgrade", names(), self.version - 1, self.version))
            return
        session = DjangoSession(schema_editor.connection)
        with _rights_told(schema_editor.connection):
            if not is_installed(session, names()) or installed_version(session, names()) < self.version:
                bring_up_to_date(session, names())

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        if self.version != 1 or not _concerns(app_label, schema_editor):
            return
        if schema_editor.collect_sql:
            _print(schema_editor, changes("uninstall", names()))
            return
        with _rights_told(schema_editor.connection):
            uninstall(DjangoSession(schema_editor.connection), names())

    def describe(self) -> str:
        return f"Bring pgq-sync's tables to version {self.version}"


def _concerns(app_label: str, schema_editor: Any) -> bool:
    alias = schema_editor.connection.alias
    return alias == configuration().database and router.allow_migrate(alias, app_label)


def _print(schema_editor: Any, sql: str) -> None:
    # None: else the percent signs in our functions are taken for places of parameters.
    schema_editor.execute(sql, None)


@contextmanager
def _rights_told(connection: Any) -> Iterator[None]:
    """Says who lacks a right, and what to do about it."""
    try:
        yield
    except DatabaseError as error:
        if getattr(error.__cause__, "sqlstate", None) != _FORBIDDEN and getattr(error.__cause__, "pgcode", None) != _FORBIDDEN:
            raise
        user = connection.settings_dict["USER"] or "that of the environment"
        raise SchemaError(
            f"{str(error).splitlines()[0]}: the user of the database {connection.alias!r} is {user}; run `migrate` as the owner "
            f"of its tables, or `{_plain().command('install')}`, after which `migrate` changes nothing"
        ) from error


def _plain() -> Names:
    """The names, in the words of pgq-sync's own command line: its user may be another one than the project's."""
    found = names()
    return Names(found.prefix, found.schema)
