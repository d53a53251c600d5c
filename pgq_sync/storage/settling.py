"""How attempts ended, as the parameters of the statements that write it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from msgspec.structs import replace

from pgq_sync.models import Settlement
from pgq_sync.storage.arrays import booleans, floats, integers, texts
from pgq_sync.storage.store import CANCELLED_WAITING

FINISHING = ("succeeded", "failed", "cancelled")


def parted(settlements: Sequence[Settlement], asked: Collection[int]) -> tuple[list[Settlement], list[Settlement]]:
    """Those that end their job, and the others. What was asked to end does not wait for a further attempt: it ends."""
    finishing, returning = [], []
    for each in settlements:
        if each.outcome.status in FINISHING:
            finishing.append(each)
        elif each.claim.job.id in asked:
            finishing.append(replace(each, outcome=replace(each.outcome, status="cancelled", error=_last_errors(each))))
        else:
            returning.append(each)
    return finishing, returning


def _last_errors(settlement: Settlement) -> str:
    """What ended the attempt, and after it that the job was cancelled: appended one by one, as a list is."""
    error = settlement.outcome.error
    return CANCELLED_WAITING if error is None else f"[{error}, {CANCELLED_WAITING}]"


def finished(finishing: Sequence[Settlement]) -> dict[str, Any]:
    """Of attempts that end their job, for "finish"."""
    return {
        "statuses": texts([each.outcome.status for each in finishing]),
        "results": texts([each.outcome.result for each in finishing]),
        "errors": texts([each.outcome.error for each in finishing]),
        "keep": booleans(each.outcome.keep for each in finishing),
    }


def expected(missing: Sequence[Settlement]) -> dict[str, Any]:
    """Of attempts that were not to be found, for "written_before"."""
    return {
        "rescues": integers(each.claim.rescues for each in missing),
        "finished": booleans(each.outcome.status in FINISHING for each in missing),
    }


def returned(returning: Sequence[Settlement]) -> dict[str, Any]:
    """Of attempts that do not, for "put_back"."""
    return {
        "statuses": texts(["held" if each.outcome.status == "held" else "queued" for each in returning]),
        "delays": floats(each.outcome.delay.total_seconds() if each.outcome.status == "retried" else None for each in returning),
        "errors": texts([each.outcome.error for each in returning]),
        "attempts": integers(
            int(each.outcome.status == "released" or not each.outcome.counted) for each in returning
        ),  # to be taken back
    }
