"""`pgq`, the application object of a Django project: one per process, which reads Django's settings when it is used."""

from __future__ import annotations

from typing import Any

from django.core.signals import setting_changed
from django.utils.module_loading import autodiscover_modules

from pgq_sync.app import PgQueuer
from pgq_sync.contrib.django.configuration import LABEL, configuration
from pgq_sync.contrib.django.connections import DjangoConnections, require_postgresql
from pgq_sync.contrib.django.environment import DjangoEnvironment, in_another_process
from pgq_sync.contrib.django.tables import names
from pgq_sync.contrib.django.transactions import joined_transaction
from pgq_sync.settings import Settings
from pgq_sync.storage.backend import Backend
from pgq_sync.storage.clock import RowClock
from pgq_sync.storage.connections import Connections
from pgq_sync.storage.names import Names


class DjangoPgQueuer(PgQueuer):
    """A PgQueuer on the database of PGQ_SYNC["DATABASE"]: what it enqueues joins Django's transaction there."""

    def __init__(self) -> None:
        super().__init__(_connect, _settings, None)
        # Apart from `backend`, in whose place tests put others for a while.
        self._own = self.backend = DjangoBackend(self.backend.clock)
        self.registry.surround = in_another_process
        self.environment = DjangoEnvironment()

    def discover(self) -> None:
        """Imports the modules of the installed apps in which tasks are declared: PGQ_SYNC["MODULES"].

        Raises:
            ConfigError: PGQ_SYNC cannot be used.
        """
        autodiscover_modules(*configuration().modules)

    def require_database(self) -> None:
        """Tells before anything is connected to what is wrong with the settings.

        Raises:
            ConfigError: PGQ_SYNC cannot be used, or its database is none of PostgreSQL's.
        """
        require_postgresql(configuration().database)

    def forget_settings(self) -> None:
        """Reads the settings anew at the next use, and connects anew."""
        self._own.forget()


class DjangoBackend(Backend):
    """The place of the project's jobs, as its settings say."""

    def __init__(self, clock: RowClock) -> None:
        super().__init__(_connect, _settings, clock)
        self.transact = joined_transaction

    def forget(self) -> None:
        """Closes what was opened; settings and connections are made anew at the next use."""
        self.close()
        self._made.clear()

    @property
    def names(self) -> Names:
        configuration()  # what cannot be used is told; `names` alone would fall back to the defaults
        return names()


def _settings() -> Settings:
    return configuration().settings


def _connect(settings: Settings) -> Connections:
    return DjangoConnections(configuration().database, settings)


pgq = DjangoPgQueuer()


def _on_change(*, setting: str, **_: Any) -> None:
    if setting in (LABEL, "DATABASES"):
        pgq.forget_settings()


setting_changed.connect(_on_change, dispatch_uid="pgq_sync.settings")
