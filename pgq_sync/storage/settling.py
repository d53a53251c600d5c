"""How attempts ended, as the parameters of the statements that write it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pgq_sync.models import Settlement

FINISHING = ("succeeded", "failed", "cancelled")


def finished(finishing: Sequence[Settlement]) -> dict[str, Any]:
    """Of attempts that end their job, for "finish"."""
    return {
        "statuses": [each.outcome.status for each in finishing],
        "results": [each.outcome.result for each in finishing],
        "errors": [each.outcome.error for each in finishing],
        "keep": [each.outcome.keep for each in finishing],
    }


def expected(missing: Sequence[Settlement]) -> dict[str, Any]:
    """Of attempts that were not to be found, for "written_before"."""
    return {
        "rescues": [each.claim.rescues for each in missing],
        "finished": [each.outcome.status in FINISHING for each in missing],
    }


def returned(returning: Sequence[Settlement]) -> dict[str, Any]:
    """Of attempts that do not, for "put_back"."""
    return {
        "statuses": ["held" if each.outcome.status == "held" else "queued" for each in returning],
        "delays": [each.outcome.delay.total_seconds() if each.outcome.status == "retried" else None for each in returning],
        "errors": [each.outcome.error for each in returning],
        "attempts": [
            int(each.outcome.status == "released" or not each.outcome.counted) for each in returning
        ],  # to be taken back
    }
