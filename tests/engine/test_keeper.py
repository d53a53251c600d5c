"""When a worker's keeper takes others for dead: not before it was heard itself for as long as they may be silent."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from pgq_sync import StoreUnavailable
from pgq_sync.engine.keeper import Keeper
from pgq_sync.models import Beat, Rescued, WorkerInfo
from tests.storage.support import worker
from tests.waiting import PATIENCE, wait_until

LIMIT = 0.3  # seconds


class Book:
    """A store in which somebody is silent for ever, and the keeper's own beats are as the test says."""

    def __init__(self, *disturbances: float | Exception) -> None:
        self.disturbed = 0.0  # when the last disturbance was over
        self.rescued: list[float] = []
        self.states: list[str] = []
        self.maintained = 0
        self._left = list(disturbances)

    def register(self, worker: WorkerInfo) -> None:
        """It is known."""

    def beat(self, worker: WorkerInfo) -> Beat:
        self.states.append(worker.state)
        disturbance = self._left.pop(0) if self._left else 0.01
        if isinstance(disturbance, Exception) or disturbance >= LIMIT:
            self.disturbed = time.monotonic()
        if isinstance(disturbance, Exception):
            raise disturbance
        return Beat(silence=disturbance, overdue_in=-5.0)

    def rescue(self, worker: WorkerInfo, *, thorough: bool = False) -> Sequence[Rescued]:
        self.rescued.append(time.monotonic())
        return []

    def maintain(self, retention: timedelta) -> None:
        self.maintained += 1
        raise RuntimeError("a table has the name of a partition")


def keep(book: Any) -> Keeper:
    me = worker("work", liveness_limit=timedelta(seconds=LIMIT))
    return Keeper(book, me, timedelta(seconds=0.01), timedelta(days=7), lambda peers: None)


@pytest.mark.parametrize(
    "disturbance", [StoreUnavailable("the database is away"), 3600.0], ids=["an outage", "a pause of the whole machine"]
)
def test_nobody_is_rescued_before_the_keeper_was_well_for_one_limit(disturbance: Any) -> None:
    book, stopping = Book(0.01, 0.01, disturbance), threading.Event()
    keeper = keep(book)
    keeper.register()
    thread = threading.Thread(target=keeper.run, args=[stopping])
    thread.start()
    wait_until(lambda: book.disturbed and book.rescued and book.rescued[-1] > book.disturbed)
    stopping.set()
    thread.join(PATIENCE)
    assert min(moment for moment in book.rescued if moment > book.disturbed) - book.disturbed >= LIMIT


def test_a_worker_that_stops_says_so_with_every_beat_even_if_its_listener_connects_anew() -> None:
    book = Book()
    keeper = keep(book)
    keeper.register()
    keeper.stopping()
    keeper.shown_by(exclusive=False)
    stopping = threading.Event()
    thread = threading.Thread(target=keeper.run, args=[stopping])
    thread.start()
    wait_until(lambda: len(book.states) >= 4)
    stopping.set()
    thread.join(PATIENCE)
    assert set(book.states[1:]) == {"stopping"}


def test_a_history_that_cannot_be_looked_after_costs_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgq_sync.engine.keeper._MAINTENANCE", 0.0)
    book, stopping = Book(), threading.Event()
    keeper = keep(book)
    keeper._next_maintenance = 0.0
    thread = threading.Thread(target=keeper.run, args=[stopping])
    thread.start()
    wait_until(lambda: book.maintained >= 2)
    beats = len(book.states)
    wait_until(lambda: len(book.states) > beats + 1)
    stopping.set()
    thread.join(PATIENCE)
