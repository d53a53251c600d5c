"""The shop runs by one command, and its own tests pass."""

from __future__ import annotations

import re
import signal
import urllib.request
from pathlib import Path

from tests.examples.django_shop.conftest import MANAGE, MakeShop
from tests.waiting import PATIENCE


def test_the_demo_needs_nothing_but_the_package(make_shop: MakeShop, tmp_path: Path) -> None:
    with make_shop().start("demo", "--port=0", f"--data={tmp_path / 'postgres'}", command=MANAGE) as demo:
        demo.stderr.wait_for("started:")
        address = re.search(r"http://\S+/", demo.stdout.wait_for("development server at"))
        assert address is not None
        with urllib.request.urlopen(address[0], timeout=PATIENCE) as answer:
            assert "Fountain pen" in answer.read().decode()
        demo.signal(signal.SIGINT)
        assert demo.ended() == 0, str(demo.stderr)
        demo.stdout.wait_for_end()


def test_the_shops_own_tests_pass(make_shop: MakeShop, empty_dsn: str) -> None:
    shop = make_shop(DATABASE_URL=empty_dsn)
    with shop.start("test", "orders.tests", command=MANAGE) as tests:
        assert tests.ended() == 0, str(tests.stderr)
        assert re.search(r"Ran [1-9]\d* tests", str(tests.stderr))


def test_its_migrations_are_up_to_date(make_shop: MakeShop, empty_dsn: str) -> None:
    with make_shop(DATABASE_URL=empty_dsn).start("makemigrations", "--check", command=MANAGE) as command:
        assert command.ended() == 0, str(command.stdout)
