"""Settings of a project that has no database."""

from __future__ import annotations

from tests.django.site.settings import SECRET_KEY, USE_TZ

INSTALLED_APPS = ["pgq_sync.contrib.django"]
__all__ = ["INSTALLED_APPS", "SECRET_KEY", "USE_TZ"]
