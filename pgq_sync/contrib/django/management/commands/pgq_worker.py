"""`manage.py pgq_worker`: runs the jobs of the project."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser

from pgq_sync.contrib.django.configuration import configuration
from pgq_sync.contrib.django.connections import require_postgresql
from pgq_sync.contrib.django.management.base import ClickCommand

TARGET = "pgq_sync.contrib.django.worker:application"
_OF_THE_SETTINGS = ("--dsn", "--prefix", "--schema", "--embedded")
_ENDS = ("--max-jobs", "--mode=drain", "drain")


class Command(ClickCommand):
    """Runs a worker, or several processes of them, with the options of `pgq-sync worker`."""

    help = (
        "Runs the project's jobs until SIGTERM or SIGINT. Takes the options of `pgq-sync worker`: pgq_worker --help lists them."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--reload", action="store_true", default=None, dest="reload")
        parser.add_argument("--no-reload", action="store_false", dest="reload")

    def handle(self, *args: str, reload: bool | None = None, **options: Any) -> None:
        for option in _OF_THE_SETTINGS:
            if any(word == option or word.startswith(option + "=") for word in args):
                raise CommandError(f"{option} is told by the settings PGQ_SYNC and DATABASES, and not by an option")
        require_postgresql(configuration().database)
        ends = any(word.startswith(_ENDS) for word in args)
        if settings.DEBUG and not ends if reload is None else reload:
            args = ("--reload", *args)
        self.call(["worker", *args, TARGET], {})
