"""A project's own tests enqueue, assert and drain within Django's TestCase."""

from __future__ import annotations

from tests.django.project import environment, manage


def test_a_projects_tests_work(site_dsn: str) -> None:
    done = manage("test", "tests.django.site.shop", "-v2", env=environment(site_dsn))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Ran 11 tests" in done.stderr
