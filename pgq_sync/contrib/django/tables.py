"""The names of pgq-sync's tables, as Django's models and migrations write them."""

from __future__ import annotations

from pgq_sync.contrib.django.configuration import configuration
from pgq_sync.errors import ConfigError
from pgq_sync.settings import Settings
from pgq_sync.storage.names import Names


def names() -> Names:
    """The installation's names; the default ones where PGQ_SYNC cannot be used, of which the system checks tell."""
    try:
        settings = configuration().settings
    except ConfigError:
        settings = Settings()
    return Names(settings.prefix, settings.schema, program="python manage.py pgq", migrate="python manage.py migrate")


def table(name: str) -> str:
    """What `Meta.db_table` says for a table: Django takes what stands in quotes already as it is."""
    found = names()
    return found.qualified(name) if found.schema else found.prefix + name
