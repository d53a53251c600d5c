"""The settings of the shop. Of the queue's there are two lines: its app, and PGQ_SYNC."""

import os
from pathlib import Path
from typing import Any

import django
from psycopg.conninfo import conninfo_to_dict

BASE_DIR = Path(__file__).resolve().parent.parent

SECRET_KEY = os.environ.get("SECRET_KEY", "an example's key is no secret")
DEBUG = os.environ.get("DEBUG", "1") == "1"
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]
ROOT_URLCONF = "shop.urls"
WSGI_APPLICATION = "shop.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "static/"
USE_TZ = True
TIME_ZONE = "Europe/Berlin"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "pgq_sync.contrib.django",
    "orders",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
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


def database(dsn: str) -> dict[str, Any]:
    """The entry of DATABASES for a DSN, such as postgresql://user@host/shop."""
    given = conninfo_to_dict(dsn)
    names = {"NAME": "dbname", "USER": "user", "PASSWORD": "password", "HOST": "host", "PORT": "port"}
    return {"ENGINE": "django.db.backends.postgresql"} | {key: str(given.get(name) or "") for key, name in names.items()}


DATABASES = {"default": database(os.environ.get("DATABASE_URL", "dbname=shop"))}

# What the queue needs to know; the database is "default", so that a job is enqueued in the transaction of the order.
PGQ_SYNC = {"CONCURRENCY": 8}

# A mail server with moods: see mailserver.py.
MAILS = Path(os.environ.get("SHOP_MAILS", BASE_DIR / "mails"))
if django.VERSION >= (6, 1):
    MAILERS = {"default": {"BACKEND": "shop.mailserver.MoodyBackend", "OPTIONS": {"file_path": str(MAILS)}}}
else:
    EMAIL_BACKEND = "shop.mailserver.MoodyBackend"
    EMAIL_FILE_PATH = str(MAILS)

EXPORT_PAUSE = 0.2  # seconds after every ten orders: the export of a small shop would be over before one sees it
