"""The settings of a small site, for the tests."""

from __future__ import annotations

import json
import os
from importlib.util import find_spec

import django

from tests.django.site.start import DSN, database_entry

SECRET_KEY = "of no importance here"
ALLOWED_HOSTS = ["*"]
USE_TZ = True
ROOT_URLCONF = "tests.django.site.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "static/"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "pgq_sync.contrib.django",
    "tests.django.site.shop",
]
_TASKS = "django.tasks" if django.VERSION >= (6, 0) else "django_tasks"
if find_spec(_TASKS):  # the tests that need it tell where it is not there
    INSTALLED_APPS += ["tests.django.site.mail", *(["django_tasks"] if _TASKS == "django_tasks" else [])]
_OURS = "pgq_sync.contrib.django.backend.PgqBackend"
TASKS = {
    "default": {"BACKEND": _OURS, "QUEUES": []},
    "second": {"BACKEND": _OURS, "QUEUES": ["default", "mail"]},
    "immediate": {"BACKEND": f"{_TASKS}.backends.immediate.ImmediateBackend", "QUEUES": []},
    "immediate_second": {"BACKEND": f"{_TASKS}.backends.immediate.ImmediateBackend", "QUEUES": ["default", "mail"]},
    "dummy": {"BACKEND": f"{_TASKS}.backends.dummy.DummyBackend", "QUEUES": []},
    "dummy_second": {"BACKEND": f"{_TASKS}.backends.dummy.DummyBackend", "QUEUES": ["default", "mail"]},
}
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
# Tests point "default" to a database of their own; whoever starts the site in another process gives it in the environment.
DATABASES = {"default": database_entry(os.environ.get(DSN, "dbname=nowhere")) | json.loads(os.environ.get("SITE_DATABASE", "{}"))}
PGQ_SYNC = json.loads(os.environ.get("SITE_PGQ_SYNC", "{}"))
