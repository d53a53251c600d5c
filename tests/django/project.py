"""The site as a project of its own: its commands run in other processes, as a user's do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.django.site.start import DSN, SETTINGS
from tests.waiting import PATIENCE

ROOT = Path(__file__).parents[2]


def environment(dsn: str, pgq_sync: dict[str, Any] | None = None, **database: Any) -> dict[str, str]:
    """That of a process of the site.

    Args:
        dsn: of the database "default".
        pgq_sync: the setting PGQ_SYNC.
        database: further entries of DATABASES["default"].
    """
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "SITE_"))}
    return ours | {
        "DJANGO_SETTINGS_MODULE": SETTINGS,
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        DSN: dsn,
        "SITE_PGQ_SYNC": json.dumps(pgq_sync or {}),
        "SITE_DATABASE": json.dumps(database),
    }


def manage(*arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """A call of `manage.py` that ends by itself."""
    return python("-m", "django", *arguments, env=env)


def python(*arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """A call of Python that ends by itself."""
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=2 * PATIENCE, check=False)


@contextmanager
def running(*arguments: str, env: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A process of Python, killed at the end if it still runs."""
    command = [sys.executable, *arguments]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield process
        finally:
            process.kill()
