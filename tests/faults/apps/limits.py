"""The limits of `limited`'s entrypoints, for it and for those who watch it."""

from __future__ import annotations

from typing import Any

RATE = 20
BURST = 20  # one second's worth, by default
LIMITS: dict[str, dict[str, Any]] = {
    "single": {"concurrency_limit": 1},
    "five": {"concurrency_limit": 5},
    "rated": {"requests_per_second": RATE},
    "work": {},
}
