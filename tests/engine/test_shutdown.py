"""The end of running jobs, at moments that are hard to meet."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

from pgq_sync.engine.mailbox import Mailbox
from pgq_sync.engine.shutdown import Shutdown
from pgq_sync.entrypoints.context import Context
from tests.engine.test_completer import claim


class Ending:
    """A slot whose job ends between two looks at it."""

    claim = claim(1)

    def __init__(self) -> None:
        self._contexts: list[Context | None] = [None, Context(self.claim.job, {}, Mock())]

    @property
    def context(self) -> Context | None:
        return self._contexts.pop() if self._contexts else None


def test_a_job_may_end_just_when_it_is_to_be_asked_to_stop() -> None:
    slots: Any = Mock()
    slots.running.side_effect = [[Ending()], []]
    assert Shutdown(Mailbox[Any](), slots, Mock(), Mock()).end_jobs(0) == set()
