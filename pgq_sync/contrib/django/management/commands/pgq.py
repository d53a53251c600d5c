"""`manage.py pgq ...`: the commands of `pgq-sync`, on the database and with the settings of the project."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

from django.core.management.base import CommandError

from pgq_sync.contrib.django.configuration import configuration
from pgq_sync.contrib.django.connections import dsn_of
from pgq_sync.contrib.django.management.base import ClickCommand
from pgq_sync.settings import ENV_PREFIX, Settings

_MIGRATIONS = {
    "install": "python manage.py migrate",
    "upgrade": "python manage.py migrate",
    "uninstall": "python manage.py migrate pgq_sync zero",
}


class Command(ClickCommand):
    """Calls pgq-sync with the project's settings in place of the environment's."""

    help = "pgq-sync's command line on this project's database: manage.py pgq --help lists the commands."

    def handle(self, *args: str, **options: Any) -> None:
        found = configuration()
        if args[:1] and args[0] in _MIGRATIONS:
            raise CommandError(f"a project's tables are made, upgraded and removed by its migrations: {_MIGRATIONS[args[0]]}")
        self.call(args, {**in_environment(found.settings), f"{ENV_PREFIX}DSN": dsn_of(found.database)})


def in_environment(settings: Settings) -> dict[str, str]:
    """The environment's variables by which pgq-sync comes to these settings."""
    given = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    defaults = {field.name: field.default for field in dataclasses.fields(settings)}
    return {
        ENV_PREFIX + name.upper(): f"{value.total_seconds():f}" if isinstance(value, timedelta) else str(value)
        for name, value in given.items()
        if value != defaults[name] and value is not None
    }
