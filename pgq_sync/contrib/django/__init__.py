"""pgq-sync within Django: add "pgq_sync.contrib.django" to INSTALLED_APPS, and enqueue through `pgq`."""

from pgq_sync.contrib.django.application import DjangoPgQueuer, pgq

__all__ = ["DjangoPgQueuer", "pgq"]
