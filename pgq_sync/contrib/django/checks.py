"""What `manage.py check` says of pgq-sync. Errors keep a worker from starting; each names the way out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.conf import settings as django_settings
from django.core import checks
from django.core.checks import CheckMessage, Error

from pgq_sync.contrib.django.configuration import Configuration, configuration
from pgq_sync.contrib.django.connections import require_postgresql
from pgq_sync.errors import ConfigError, PgqError


def check_settings(**_: Any) -> Iterable[CheckMessage]:
    """PGQ_SYNC itself, and the database that it names."""
    try:
        found = configuration()
    except ConfigError as error:
        return [Error(str(error), id="pgq_sync.E001")]
    return [*_engine(found), *_several(found)]


def check_database(*, databases: Sequence[str] | None = None, **_: Any) -> Iterable[CheckMessage]:
    """The tables; asked for with `--database` only, as all checks that connect are."""
    from pgq_sync.contrib.django.application import pgq

    try:
        if configuration().database not in (databases or ()):
            return []
        pgq.schema.require()
    except ConfigError:
        return []  # told by check_settings
    except PgqError as error:
        # No error: `migrate`, which mends it, runs these checks too, and would refuse to begin.
        return [checks.Warning(str(error), hint="Run `python manage.py migrate`.", id="pgq_sync.W002")]
    return []


def _engine(found: Configuration) -> Iterable[CheckMessage]:
    try:
        require_postgresql(found.database)
    except ConfigError as error:
        yield Error(str(error), hint="Name a PostgreSQL database in PGQ_SYNC['DATABASE'].", id="pgq_sync.E002")


def _several(found: Configuration) -> Iterable[CheckMessage]:
    others = [alias for alias in django_settings.DATABASES if alias != found.database]
    if found.database != "default" and "default" in others:
        yield checks.Warning(
            f"Jobs are kept in the database {found.database!r}: those enqueued within atomic() on 'default' do not share its "
            "transaction, and stay if it is rolled back.",
            hint=f"Enqueue within atomic(using={found.database!r}), or after transaction.on_commit(...).",
            id="pgq_sync.W001",
        )
