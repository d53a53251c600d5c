"""What worker processes load: the project, and then its `pgq`."""

from __future__ import annotations

import django
from django.apps import apps

from pgq_sync.contrib.django.application import DjangoPgQueuer, pgq


def application() -> DjangoPgQueuer:
    """The project's PgQueuer, all apps loaded."""
    if not apps.ready:
        django.setup()
    return pgq
