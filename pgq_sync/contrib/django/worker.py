"""What worker processes load: the project, and then its `pgq`."""

from __future__ import annotations

from pgq_sync.contrib.django.application import DjangoPgQueuer, pgq
from pgq_sync.contrib.django.setup import setup


def application() -> DjangoPgQueuer:
    """The project's PgQueuer, all apps loaded.

    Raises:
        ConfigError: as of `setup`, or the database cannot be used.
    """
    setup()
    pgq.require_database()
    return pgq
