"""`pgq`, the application object of a Django project: one per process, which reads Django's settings when it is used."""

from __future__ import annotations

from typing import Any

from django.core.signals import setting_changed
from django.utils.module_loading import autodiscover_modules

from pgq_sync.app import PgQueuer
from pgq_sync.contrib.django.configuration import LABEL, configuration
from pgq_sync.contrib.django.connections import DjangoConnections
from pgq_sync.contrib.django.environment import DjangoEnvironment
from pgq_sync.settings import Settings
from pgq_sync.storage.backend import Backend
from pgq_sync.storage.connections import Connections


class DjangoPgQueuer(PgQueuer):
    """A PgQueuer on the database of PGQ_SYNC["DATABASE"]: what it enqueues joins Django's transaction there."""

    def __init__(self) -> None:
        super().__init__(_connect, _settings, None)
        self.environment = DjangoEnvironment()

    def discover(self) -> None:
        """Imports the modules of the installed apps in which tasks are declared: PGQ_SYNC["MODULES"].

        Raises:
            ConfigError: PGQ_SYNC cannot be used.
        """
        autodiscover_modules(*configuration().modules)

    def forget_settings(self) -> None:
        """Reads the settings anew at the next use, and connects anew."""
        before, self.backend = self.backend, Backend(_connect, _settings, self.backend.clock)
        before.close()


def _settings() -> Settings:
    return configuration().settings


def _connect(settings: Settings) -> Connections:
    return DjangoConnections(configuration().database, settings)


pgq = DjangoPgQueuer()


def _on_change(*, setting: str, **_: Any) -> None:
    if setting in (LABEL, "DATABASES"):
        pgq.forget_settings()


setting_changed.connect(_on_change, dispatch_uid="pgq_sync.settings")
