"""The shop's commands, in processes of their own: one process has one Django, and here that is the tests' site."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.console import Console

ROOT = Path(__file__).parents[3]
MANAGE = (sys.executable, str(ROOT / "examples/django/manage.py"))

MakeShop = Callable[..., Console]


@pytest.fixture(scope="session")
def make_shop(tmp_path_factory: pytest.TempPathFactory) -> MakeShop:
    """Calls manage.py from a directory that has nothing to do with it."""

    def make(**environment: str) -> Console:
        directory = tmp_path_factory.mktemp("shop")
        return Console(directory, PYTHONPATH=str(ROOT), SHOP_MAILS=str(directory / "mails"), **environment)

    return make
