"""A store and its model side by side: everything is done in both, and compared. The rules say what is done, and when."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import pytest

from pgq_sync import Settings
from pgq_sync.engine.limits import LocalLimits
from pgq_sync.errors import DuplicateJob
from pgq_sync.models import Claim, DeclaredLimit, Limit, NewJob, OnConflict, Room, Settlement, WorkerInfo
from pgq_sync.storage.intake import check
from pgq_sync.storage.producer import Producer
from tests.storage.machine import operators
from tests.storage.machine.claims import Claims, Hand, ended
from tests.storage.machine.fleet import Fleet
from tests.storage.machine.knowledge import Knowledge
from tests.storage.machine.limits import Limits, Pause
from tests.storage.machine.model import Jobs
from tests.storage.machine.rows import Row, differences
from tests.storage.machine.worlds import POLL_INTERVAL, Seat, World

LIVENESS_LIMIT = timedelta(seconds=15)
TOLD = timedelta(seconds=60)  # what is put back and due within this is announced
ENTRYPOINTS = ("a", "b", "c")
QUEUES = ("default", "mail")
WORKERS: tuple[tuple[tuple[str, ...] | None, tuple[str, ...], dict[str, Limit]], ...] = (
    (None, ENTRYPOINTS, {}),
    (("mail",), ("a", "b"), {"a": Limit(concurrency_limit=2, scope="worker")}),
    (None, ENTRYPOINTS, {"b": Limit(concurrency_limit=2), "c": Limit(concurrency_limit=1)}),
)
"""By queues, entrypoints, and limits that they know themselves."""


class Station:
    """A worker: what it is, what it has claimed, and where it sits."""

    def __init__(self, number: int) -> None:
        queues, entrypoints, limits = WORKERS[number]
        # The same in every run, so that an example can be run again.
        worker_id = UUID(int=number + 1)
        worker = WorkerInfo(
            worker_id=worker_id,
            name=str(worker_id),
            host="localhost",
            pid=number,
            version="0",
            queues=queues,
            entrypoints=entrypoints,
            slots=10,
            liveness_limit=LIVENESS_LIMIT,
        )
        self.number = number
        self.hand = Hand(worker, limits)
        self.limits = LocalLimits(limits)
        self.claims: list[Claim] = []  # all that it ever made, the latest first
        self.seat: Seat | None = None
        self.knowledge: Knowledge | None = None

    @property
    def worker(self) -> WorkerInfo:
        return self.hand.worker

    @property
    def worker_id(self) -> UUID:
        return self.hand.worker.worker_id


class Stage:
    """Everything on it."""

    def __init__(self, world: World) -> None:
        world.reset()
        self.world = world
        self.clock = world.clock
        self.store = world.store
        settings = Settings()
        self.producer = Producer(lambda: self.store.intake(), lambda: settings, lambda entrypoint: None)
        self.stations = [Station(number) for number in range(len(WORKERS))]
        self.jobs = Jobs(self.clock)
        self.limits = Limits(self.clock)
        self.fleet = Fleet(self.jobs, LIVENESS_LIMIT)
        self.claims = Claims(self.jobs, self.limits)

    def close(self) -> None:
        for station in self.stations:
            if station.seat is not None:
                self.leave(station)

    def compare(self) -> None:
        """Fails unless the store has what the model has."""
        rows = self.world.rows()
        differ = differences(rows, self.jobs.rows)
        assert not differ, "\n".join(differ)
        taken = {row.dedupe_key: row.id for row in rows.values() if row.guards}
        assert self.world.keys() == taken, f"taken are the keys {self.world.keys()}, and not {taken}"
        # Nothing is lost, and nothing comes from nowhere.
        assert not rows.keys() & self.jobs.forgotten
        assert rows.keys() | self.jobs.forgotten == self.jobs.enqueued

    # Producers

    def enqueue(self, jobs: Sequence[NewJob], on_conflict: OnConflict, notify: bool) -> None:
        if on_conflict == "raise" and (in_the_way := self.jobs.duplicates(jobs)):
            with pytest.raises(DuplicateJob) as caught:
                self.producer.enqueue_many(jobs)
            named = (caught.value.key, caught.value.job_id)
            assert named in in_the_way, f"named is {named}, while in the way are {in_the_way}"
            return
        ids = self.producer.enqueue_many(jobs, on_conflict=on_conflict, notify=notify)
        rows = self.jobs.enqueue(jobs, on_conflict, ids)
        if notify:
            self.announce(rows)

    def enqueue_and_roll_back(self, jobs: Sequence[NewJob]) -> None:
        """In a transaction that ends so: nothing was enqueued."""
        checked = [check(job, max_payload=100) for job in jobs]
        with pytest.raises(_RolledBackError), self.store.intake() as intake, intake.atomic():
            intake.add(checked, on_conflict="replace", notify=True)
            raise _RolledBackError

    def announce(self, rows: Sequence[Row]) -> None:
        for station in self.seated:
            for row in rows:
                self.knowledge_of(station).heard_of(row)

    def announce_everything(self) -> None:
        for station in self.seated:
            self.knowledge_of(station).heard_of_everything()

    # Workers

    @property
    def seated(self) -> list[Station]:
        return [station for station in self.stations if station.seat is not None]

    def knowledge_of(self, station: Station) -> Knowledge:
        assert station.knowledge is not None
        return station.knowledge

    def seat_of(self, station: Station) -> Seat:
        assert station.seat is not None
        return station.seat

    def sit(self, station: Station) -> None:
        """A worker starts, as the engine does it."""
        self.store.register(station.worker)
        self.fleet.beats[station.worker_id] = self.clock.now
        own = {name: limit for name, limit in station.hand.own_limits.items() if limit.scope == "fleet"}
        self.declare([DeclaredLimit(name, limit.concurrency_limit) for name, limit in own.items()], [])
        station.seat = self.world.sit(station.worker, station.limits)
        station.knowledge = Knowledge(self.world.all_known)
        self.fleet.seated.add(station.worker_id)

    def leave(self, station: Station) -> None:
        """A worker's session ends, however that comes."""
        self.seat_of(station).leave()
        station.seat = station.knowledge = None
        self.fleet.seated.discard(station.worker_id)

    def claim(self, station: Station, room: Room, *, thorough: bool) -> list[Claim]:
        seat = self.seat_of(station)
        seat.hear()
        claimed = seat.claimer.claim(room, thorough=thorough)
        self.claims.judge(station.hand, self.knowledge_of(station), room, thorough, claimed)
        claims = [*claimed.careful, *claimed.plain]
        station.claims[:0] = claims
        return claims

    def settle(self, worker_id: UUID, settlements: Sequence[Settlement], *, again: bool = False) -> None:
        settled = self.store.settle(worker_id, settlements, again=again)
        waiting = self.jobs.settle(worker_id, settlements, settled, again)
        self.announce([row for row in waiting if row.execute_after <= self.clock.now + POLL_INTERVAL])
        if any(row.quarantined and row.execute_after <= self.clock.now + TOLD for row in waiting):
            self.announce_everything()
        self.end(worker_id, [each.claim for each in settlements])

    def complete(self, settlement: Settlement) -> bool:
        with self.world.connection() as connection:
            return self.store.finish(connection, settlement)

    def end(self, worker_id: UUID, claims: Sequence[Claim]) -> None:
        """Claims have ended for their worker: valid or not, they count in its own limits no more."""
        for station in self.stations:
            if station.worker_id == worker_id:
                counted = [name for claim in claims if (name := ended(station.hand, claim))]
                limited = station.limits.ended(counted)
                if limited and station.seat is not None:
                    station.seat.claimer.ended(limited)

    def recover(self, station: Station, claims: Sequence[Claim]) -> None:
        recovered = self.seat_of(station).claimer.recover(claims)
        assert recovered.complete, f"nobody has a lock, and not all is recovered: {recovered}"
        if self.jobs.recover(station.worker_id, claims, recovered.lost):
            self.announce_everything()

    def beat(self, station: Station) -> None:
        beat = self.store.beat(station.worker)
        self.fleet.beat(station.worker, beat)

    def rescue(self, station: Station, *, thorough: bool) -> None:
        rescued = self.store.rescue(station.worker, thorough=thorough)
        left = [info.worker_id for info in self.store.workers()]
        if self.fleet.rescue(station.worker_id, thorough, rescued, left):
            operators.end_requested(self.jobs)  # what was asked to end does not run again
            self.announce_everything()

    # Limits

    def declare(self, limits: Sequence[DeclaredLimit], unlimited: Sequence[str]) -> None:
        changes = self.store.limits.declare(limits, unlimited)
        if self.limits.declare(limits, unlimited, changes):
            self.announce_everything()

    def pause(self, name: Pause) -> None:
        changed = self.store.limits.pause(entrypoint=name[0], queue=name[1])
        self.limits.pause(name, changed)
        if changed:
            self.announce_everything()

    def resume(self, name: Pause) -> None:
        changed = self.store.limits.resume(entrypoint=name[0], queue=name[1])
        self.limits.resume(name, changed)
        if changed:
            self.announce_everything()

    def compare_limits(self) -> None:
        """Fails unless an operator is shown what there is."""
        self.limits.compare(self.store.limits.records(), self.jobs.having("running"))


class _RolledBackError(Exception):
    """Ends a transaction."""
