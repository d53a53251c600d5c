"""What workers do: they come and go, claim and settle, beat and rescue."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import cycle

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pgq_sync.models import Claim, NewJob, Outcome, Room, Settlement
from pgq_sync.storage.claiming import Claimer
from tests.storage.machine.given import keyed_jobs, outcomes, picks, plain_jobs, rooms, stations
from tests.storage.machine.stage import WORKERS, Stage, Station
from tests.storage.machine.worlds import World
from tests.waiting import PATIENCE


class WorkerRules(RuleBasedStateMachine):
    """Rules of workers. `world` is set by the test."""

    world: World

    def __init__(self) -> None:
        super().__init__()
        self.stage = Stage(self.world)

    def teardown(self) -> None:
        self.stage.close()

    @invariant()
    def store_and_model_agree(self) -> None:
        self.stage.compare()

    @initialize(jobs=st.lists(plain_jobs | keyed_jobs, max_size=8))
    def open_a_queue(self, jobs: list[NewJob]) -> None:
        """With some jobs in it and one worker."""
        self.stage.enqueue(jobs, "skip", True)
        self.stage.sit(self.stage.stations[0])

    def seated(self, number: int) -> Station:
        """The station, or another one that is open."""
        seated = self.stage.seated
        return seated[number % len(seated)]

    def any_seated(self) -> bool:
        return bool(self.stage.seated)

    def any_valid(self) -> bool:
        return bool(self.valid())

    def any_claims(self) -> bool:
        return any(station.claims for station in self.stage.stations)

    def valid(self) -> list[tuple[Station, Claim]]:
        """The claims that may be settled."""
        jobs = self.stage.jobs
        return [(station, claim) for station in self.stage.stations for claim in station.claims if jobs.holds(claim)]

    # Claims

    @precondition(any_seated)
    @rule(number=stations, room=rooms)
    def claim(self, number: int, room: Room) -> None:
        self.stage.claim(self.seated(number), room, thorough=False)

    @precondition(any_seated)
    @rule(number=stations, room=rooms)
    def look_and_claim(self, number: int, room: Room) -> None:
        self.stage.claim(self.seated(number), room, thorough=True)

    @precondition(any_seated)
    @rule(number=stations, thorough=st.booleans())
    def claim_all(self, number: int, thorough: bool) -> None:
        """Until there is no more, at once or by and by: nothing that could start may be left."""
        station, stage = self.seated(number), self.stage
        # What a claim leaves for the next time another one brings: of the suspects it takes one lane, limited perhaps.
        looks = [thorough, False]
        for _ in range(len(stage.jobs.rows) + 1):
            if not thorough:
                # By then a claimer looks again, and tries limits again that it has found reached.
                stage.clock.move(seconds=5)
            if not any(stage.claim(station, Room(50, 50, True), thorough=each) for each in looks):
                break
        left = stage.claims.claimable(station.hand)
        assert not left, f"nobody claims these: {left}"
        if not station.hand.open and not any(stage.jobs.holds(claim) for claim in station.claims):
            # A drain ends here unless jobs wait for a limit.
            due, held_back = stage.claims.due(station.hand), stage.seat_of(station).claimer.held_back
            assert held_back == bool(due), f"held back: {held_back}, and due are {due}"

    @precondition(any_seated)
    @rule(number=stations, later=st.booleans())
    def wait_for_a_job(self, number: int, later: bool) -> None:
        """A claimer that sleeps is woken: by a job that is enqueued, or when one that it has seen is due."""
        station, stage = self.seated(number), self.stage
        job = NewJob(entrypoint="a", queue="mail", execute_after=timedelta(seconds=2 if later else 0))
        if later:
            stage.enqueue([job], "raise", True)
        claimer = stage.seat_of(station).claimer
        claimer.arm()
        stage.claim(station, Room(50, 0, False), thorough=True)
        if later:
            stage.clock.move(seconds=2)
            fresh = [row for row in stage.claims.due(station.hand) if not stage.claims.careful(station.hand, row)]
            assert not fresh or _ends(claimer, lambda: None), "sleeps on, though a job is due"
        elif stage.claims.starts_at_once(station.hand, job):
            woken = _ends(claimer, lambda: stage.enqueue([job], "raise", True))
            assert woken, "sleeps on, though a job was enqueued"
        stage.claim(station, Room(50, 0, False), thorough=False)

    # Outcomes

    @precondition(any_seated)
    @rule(number=stations, room=rooms, thorough=st.booleans(), given=st.lists(outcomes, min_size=1, max_size=3))
    def work(self, number: int, room: Room, thorough: bool, given: list[Outcome]) -> None:
        """Claims, and settles all of it at once."""
        station, stage = self.seated(number), self.stage
        claims = stage.claim(station, room, thorough=thorough)
        stage.settle(
            station.worker_id, [Settlement(claim, outcome) for claim, outcome in zip(claims, cycle(given), strict=False)]
        )

    @precondition(any_valid)
    @rule(pick=picks, outcome=outcomes)
    def settle(self, pick: int, outcome: Outcome) -> None:
        valid = self.valid()
        station, claim = valid[pick % len(valid)]
        self.stage.settle(station.worker_id, [Settlement(claim, outcome)])

    @precondition(any_claims)
    @rule(number=stations, given=st.lists(st.tuples(picks, outcomes), min_size=2, max_size=5))
    def settle_many(self, number: int, given: list[tuple[int, Outcome]]) -> None:
        """Valid claims and others, the latest of each job: one that is lost spoils no other."""
        claiming = [station for station in self.stage.stations if station.claims]
        station = claiming[number % len(claiming)]
        latest: dict[int, Claim] = {}
        for claim in station.claims:
            latest.setdefault(claim.job.id, claim)
        chosen = {claim.job.id: (claim, outcome) for claim, outcome in _chosen(list(latest.values()), given)}
        self.stage.settle(station.worker_id, [Settlement(claim, outcome) for claim, outcome in chosen.values()])

    @precondition(any_claims)
    @rule(number=stations, pick=st.integers(0, 30), outcome=outcomes, again=st.booleans(), by=st.none() | stations)
    def settle_whatever(self, number: int, pick: int, outcome: Outcome, again: bool, by: int | None) -> None:
        """Any claim that there ever was, in the name of any worker."""
        claiming = [station for station in self.stage.stations if station.claims]
        station = claiming[number % len(claiming)]
        claim = station.claims[pick % len(station.claims)]
        worker_id = station.worker_id if by is None else self.stage.stations[by].worker_id
        self.stage.settle(worker_id, [Settlement(claim, outcome)], again=again)

    @precondition(any_claims)
    @rule(number=stations, pick=st.integers(0, 30))
    def complete(self, number: int, pick: int) -> None:
        """Completion by the handler itself, on a connection of its own."""
        claiming = [station for station in self.stage.stations if station.claims]
        station = claiming[number % len(claiming)]
        settlement = Settlement(station.claims[pick % len(station.claims)], Outcome(status="succeeded"))
        written = self.stage.complete(settlement)
        self.stage.jobs.complete(station.worker_id, settlement, written)
        self.stage.end(station.worker_id, [settlement.claim])

    # The fleet

    @rule(number=stations)
    def sit(self, number: int) -> None:
        if self.stage.stations[number].seat is None:
            self.stage.sit(self.stage.stations[number])

    @precondition(any_seated)
    @rule(number=stations)
    def leave(self, number: int) -> None:
        self.stage.leave(self.seated(number))

    @precondition(any_seated)
    @rule(number=stations, forgotten=st.none() | picks)
    def recover(self, number: int, forgotten: int | None) -> None:
        """A worker compares what it knows to hold, all but one claim of which the answer was lost."""
        station, stage = self.seated(number), self.stage
        known = [claim for claim in station.claims if stage.jobs.holds(claim)]
        if forgotten is not None and known:
            lost = known.pop(forgotten % len(known))
            station.claims.remove(lost)
            stage.end(station.worker_id, [lost])
        ids = {claim.job.id for claim in known}
        stale = [claim for claim in station.claims if not stage.jobs.holds(claim) and claim.job.id not in ids]
        stage.recover(station, [*known, *stale[:1]])

    @rule(number=stations, thorough=st.booleans(), well=st.booleans())
    def rescue(self, number: int, thorough: bool, well: bool) -> None:
        """Somebody looks after the others, having been silent for long himself perhaps."""
        if well:
            self.stage.beat(self.stage.stations[number])
        self.stage.rescue(self.stage.stations[number], thorough=thorough)

    @rule(number=stations, by=st.integers(1, len(WORKERS) - 1), room=rooms, times=st.integers(1, 3), thorough=st.booleans())
    def die(self, number: int, by: int, room: Room, times: int, thorough: bool) -> None:
        """A worker's session ends, nothing is heard of it, and somebody else takes over what it has claimed."""
        stage, station = self.stage, self.stage.stations[number]
        rescuer = stage.stations[(number + by) % len(WORKERS)]
        for _ in range(times):
            if station.seat is None:
                stage.sit(station)
            stage.claim(station, room, thorough=True)
            stage.leave(station)
            stage.clock.move(seconds=16)
            stage.beat(rescuer)
            stage.rescue(rescuer, thorough=thorough)

    @rule(number=stations, clean=st.booleans())
    def deregister(self, number: int, clean: bool) -> None:
        worker_id = self.stage.stations[number].worker_id
        self.stage.store.deregister(worker_id, clean=clean)
        self.stage.fleet.deregister(worker_id, clean)


def _chosen(claims: Sequence[Claim], given: Sequence[tuple[int, Outcome]]) -> list[tuple[Claim, Outcome]]:
    return [(claims[pick % len(claims)], outcome) for pick, outcome in given]


def _ends(claimer: Claimer, event: Callable[[], object]) -> bool:
    """Whether the claimer's sleep ends by an event."""
    asleep = threading.Event()

    def sleep() -> None:
        asleep.set()
        claimer.wait()

    sleeper = threading.Thread(target=sleep)
    sleeper.start()
    asleep.wait()
    event()
    sleeper.join(PATIENCE)
    ended = not sleeper.is_alive()
    claimer.wake()
    sleeper.join()
    return ended
