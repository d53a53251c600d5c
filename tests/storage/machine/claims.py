"""What a claim may bring, what it may not, and what it may not leave."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from pgq_sync.models import Claim, Claimed, Limit, NewJob, Room, WorkerInfo
from tests.storage.machine.knowledge import Knowledge
from tests.storage.machine.limits import Limits
from tests.storage.machine.model import Jobs
from tests.storage.machine.rows import Row


@dataclass
class Hand:
    """A worker, as far as it claims."""

    worker: WorkerInfo
    own_limits: dict[str, Limit]
    open: dict[tuple[int, int], str] = field(default_factory=dict)  # careful claims, with their entrypoint
    fences: set[int] = field(default_factory=set)

    def serves(self, row: Row | NewJob) -> bool:
        queues, entrypoints = self.worker.queues, self.worker.entrypoints
        return row.entrypoint in entrypoints and (queues is None or row.queue in queues)

    def room(self, entrypoint: str, fleet: int) -> int:
        """How many more of its jobs it may run by its own count; `fleet` may run in all, 0: any number."""
        limit = self.own_limits.get(entrypoint)
        if limit is None:
            return 10**9
        most = limit.concurrency_limit if limit.scope == "worker" else fleet
        return most - list(self.open.values()).count(entrypoint) if most else 10**9


class Claims:
    """Judges claims, and has the model make them too."""

    def __init__(self, jobs: Jobs, limits: Limits) -> None:
        self._jobs = jobs
        self._limits = limits

    def queued(self, hand: Hand) -> list[Row]:
        """What the worker may claim, now or later."""
        return [row for row in self._jobs.having("queued") if hand.serves(row) and not self._limits.paused(row)]

    def due(self, hand: Hand) -> list[Row]:
        return [row for row in self.queued(hand) if row.execute_after <= self._jobs.now]

    def careful(self, hand: Hand, row: Row) -> bool:
        """Whether it must start as soon as it is claimed."""
        return row.quarantined or row.entrypoint in hand.own_limits or self._limits.limited(row.entrypoint)

    def starts_at_once(self, hand: Hand, job: NewJob) -> bool:
        """Whether a job without a key, if it were enqueued, could be claimed in advance."""
        own = job.entrypoint in hand.own_limits or self._limits.limited(job.entrypoint)
        return not own and hand.serves(job) and not self._limits.paused(job)

    def room(self, hand: Hand, entrypoint: str) -> int:
        """How many more of an entrypoint's jobs the limits leave."""
        running = sum(row.entrypoint == entrypoint for row in self._jobs.having("running"))
        return min(hand.room(entrypoint, self._limits.most(entrypoint)), self._limits.room(entrypoint, running))

    def claimable(self, hand: Hand) -> list[Row]:
        """What a worker with room could start now."""
        return [row for row in self.due(hand) if self.room(hand, row.entrypoint) > 0]

    def judge(self, hand: Hand, knowledge: Knowledge, room: Room, thorough: bool, claimed: Claimed) -> None:
        """Fails unless a claim is right, and makes it."""
        knowledge.before_claim(self.queued(hand), self._jobs.now, thorough)
        due = {row.id: row for row in self.due(hand)}
        ids = [claim.job.id for claim in [*claimed.careful, *claimed.plain]]
        assert len(ids) == len(set(ids)), f"claimed twice: {ids}"
        for job_id in ids:
            assert job_id in due, f"not to be claimed: {self._jobs.rows.get(job_id)}"
        self._judge_kinds(hand, room, claimed, due)
        self._judge_order(claimed, due, set(ids))
        self._judge_limits(hand, claimed)
        known = [row for row in due.values() if not self.careful(hand, row) and knowledge.knows(row)]
        _judge_rest(
            [row for row in known if row.id not in ids], len(ids) < room.ahead, [due[each.job.id] for each in claimed.plain]
        )
        knowledge.claimed(
            {due[each.job.id].lane for each in claimed.plain},
            careful=bool(claimed.careful),
            room_left=len(claimed.plain) < room.ahead,
            now=self._jobs.now,
        )
        self._make(hand, claimed)

    def _judge_kinds(self, hand: Hand, room: Room, claimed: Claimed, due: dict[int, Row]) -> None:
        assert len(claimed) <= room.ahead, f"{len(claimed)} jobs for {room}"
        assert len(claimed.careful) <= room.now, f"{len(claimed.careful)} careful jobs for {room}"
        for claims, wanted in ((claimed.careful, True), (claimed.plain, False)):
            for claim in claims:
                row = due[claim.job.id]
                assert self.careful(hand, row) is wanted, f"to be claimed with care: {not wanted}, but was not so: {row}"
        quarantined = sum(due[claim.job.id].quarantined for claim in claimed.careful)
        assert quarantined <= room.quarantine, f"{quarantined} from quarantine for {room}"

    def _judge_order(self, claimed: Claimed, due: dict[int, Row], ids: set[int]) -> None:
        lanes = defaultdict(list)
        for row in sorted(due.values(), key=lambda row: row.place):
            lanes[row.lane].append(row)
        for lane, rows in lanes.items():
            taken = [row.id in ids for row in rows]
            assert taken == sorted(taken, reverse=True), f"not the first of lane {lane}: {ids} of {[row.id for row in rows]}"
        for claims in (claimed.plain, claimed.careful):
            order = [(-due[claim.job.id].priority, *due[claim.job.id].place) for claim in claims]
            assert order == sorted(order), f"not in the order in which they are to start: {claims}"

    def _judge_limits(self, hand: Hand, claimed: Claimed) -> None:
        for entrypoint, jobs in Counter(claim.job.entrypoint for claim in claimed.careful).items():
            room = self.room(hand, entrypoint)
            assert jobs <= room, f"{jobs} jobs of {entrypoint} were claimed, and its limits leave {room}"

    def _make(self, hand: Hand, claimed: Claimed) -> None:
        fences = [{claim.fence for claim in claims} for claims in (claimed.plain, claimed.careful)]
        used = hand.fences & (fences[0] | fences[1])
        assert not used, f"worker {hand.worker.worker_id} has used {used} before"
        hand.fences |= fences[0] | fences[1]
        for claim in [*claimed.plain, *claimed.careful]:
            assert claim.job.worker_id == hand.worker.worker_id
            self._jobs.claim(claim)
            self._limits.take(claim.job.entrypoint, 1)
        for claim in claimed.careful:
            hand.open[claim.job.id, claim.fence] = claim.job.entrypoint


def _judge_rest(left: Sequence[Row], room_left: bool, claimed: Sequence[Row]) -> None:
    """What may not be left: anything that is known, where there was room; and what comes before what was claimed."""
    assert not (room_left and left), f"there was room, and these were left: {left}"
    most = max((row.priority for row in left), default=None)
    for row in claimed:
        assert most is None or row.priority >= most, f"claimed before others of priority {most}: {row}"


def ended(hand: Hand, claim: Claim) -> str | None:
    """A claim ends for its worker; tells the entrypoint of one that was made with care."""
    return hand.open.pop((claim.job.id, claim.fence), None)
