"""Fixtures of the network tests: what stands between a client and the server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.network.proxy import Proxy, proxied


@pytest.fixture
def proxy(dsn: str) -> Iterator[Proxy]:
    """A proxy in front of this test's database."""
    with proxied(dsn) as proxy:
        yield proxy
