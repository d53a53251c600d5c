"""Starts Django in this process, with the site of these tests: all tests of one process share it."""

from __future__ import annotations

import os
from typing import Any

from psycopg.conninfo import conninfo_to_dict

SETTINGS = "tests.django.site.settings"
DSN = "SITE_DSN"  # the environment's variable by which other processes of the site get to know the database
_NAMES = {"NAME": "dbname", "USER": "user", "PASSWORD": "password", "HOST": "host", "PORT": "port"}


def start() -> None:
    """Sets Django up, once per process."""
    import django
    from django.apps import apps

    if not apps.ready:
        os.environ["DJANGO_SETTINGS_MODULE"] = SETTINGS
        django.setup()
        del os.environ["DJANGO_SETTINGS_MODULE"]  # processes that tests start choose for themselves


def database_entry(dsn: str) -> dict[str, Any]:
    """What stands in DATABASES for a DSN."""
    parameters = conninfo_to_dict(dsn)
    named = {key: str(parameters.get(name) or "") for key, name in _NAMES.items()}
    return {"ENGINE": "django.db.backends.postgresql", "TIME_ZONE": None} | named
