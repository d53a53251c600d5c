"""The Django app."""

from __future__ import annotations

from django.apps import AppConfig
from django.core import checks

from pgq_sync.errors import ConfigError


class PgqSyncConfig(AppConfig):
    """Its models, migrations and admin; what the installed apps declare in their tasks.py is registered when it is ready."""

    name = "pgq_sync.contrib.django"
    label = "pgq_sync"
    verbose_name = "pgq-sync"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from pgq_sync.contrib.django.application import pgq
        from pgq_sync.contrib.django.checks import check_database, check_settings

        checks.register(check_settings, "pgq_sync")
        checks.register(check_database, checks.Tags.database)
        try:
            pgq.discover()
        except ConfigError:
            pass  # the system checks tell
