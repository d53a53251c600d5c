"""How tests wait: for a condition, with a limit that only a failing test reaches."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

PATIENCE = 30.0  # seconds


def wait_until(condition: Callable[[], Any]) -> None:
    """Returns when `condition` holds; fails the test when it does not come to hold."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come to hold"
        time.sleep(0.01)  # between two looks at the condition
