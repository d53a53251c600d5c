"""Settings of a project that has not got the app."""

from __future__ import annotations

from tests.django.site.settings import DATABASES, SECRET_KEY, USE_TZ

INSTALLED_APPS = ["django.contrib.contenttypes"]
__all__ = ["DATABASES", "INSTALLED_APPS", "SECRET_KEY", "USE_TZ"]
