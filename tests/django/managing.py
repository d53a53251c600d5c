"""Runs `manage.py` of the tests' site in a process of its own, with settings of the test's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.django.site.start import DSN, SETTINGS

_ROOT = Path(__file__).parents[2]


def manage(
    dsn: str, *arguments: str, pgq_sync: Mapping[str, Any] | None = None, settings: Path | None = None, fails: bool = False
) -> str:
    """Runs a management command.

    Args:
        dsn: of the database that is "default".
        arguments: of manage.py.
        pgq_sync: the setting PGQ_SYNC.
        settings: the site's settings, as `settings_with` has made them.
        fails: whether it is to end with an error.

    Returns:
        What it said.
    """
    paths = [str(_ROOT), *([str(settings.parent)] if settings else [])]
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": settings.stem if settings else SETTINGS,
        "PYTHONPATH": os.pathsep.join(paths),
        DSN: dsn,
        "SITE_PGQ_SYNC": json.dumps(pgq_sync or {}),
    }
    done = subprocess.run(
        [sys.executable, "-m", "django", *arguments], env=environment, cwd=_ROOT, capture_output=True, text=True, timeout=100
    )
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done.stdout + done.stderr


def settings_with(folder: Path, lines: str) -> Path:
    """The site's settings and some lines of Python behind them, as a module in `folder`."""
    path = folder / "settings_of_a_test.py"
    path.write_text(f"from {SETTINGS} import *\nfrom tests.django.site.start import database_entry\n{lines}\n")
    return path
