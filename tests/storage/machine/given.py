"""What the rules are given: few names, keys and times, so that jobs meet each other often."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import strategies as st

from pgq_sync.models import NewJob, Outcome, Room
from tests.storage.machine.limits import Pause
from tests.storage.machine.stage import ENTRYPOINTS, QUEUES, WORKERS
from tests.storage.machine.worlds import START

ERROR = '{"reason": "test"}'
stations = st.integers(0, len(WORKERS) - 1)
picks = st.integers(0, 9)
rooms = st.builds(
    lambda ahead, now, quarantine: Room(ahead, min(ahead, now), quarantine), st.integers(1, 5), st.integers(0, 5), st.booleans()
)
outcomes = st.one_of(
    st.builds(Outcome, status=st.just("succeeded"), keep=st.sampled_from([True, True, False])),
    st.builds(
        lambda seconds: Outcome(status="retried", delay=timedelta(seconds=seconds), error=ERROR),
        st.sampled_from([0, 0, 0.5, 2, 30]),
    ),
    st.just(Outcome(status="retried", counted=False, error=ERROR)),
    st.sampled_from([Outcome(status=status, error=ERROR) for status in ("failed", "held", "cancelled")]),
    st.just(Outcome(status="released")),
)
on_conflicts: Any = st.sampled_from(["raise", "skip", "existing", "replace"])
entrypoints = st.sampled_from(["a", *ENTRYPOINTS])
delays = st.sampled_from([-5, 0.5, 1, 2, 10, 60]).map(lambda seconds: timedelta(seconds=seconds))
times = st.none() | delays | delays.map(lambda delay: START + 10 * delay)
plain_jobs = st.builds(
    NewJob,
    entrypoint=entrypoints,
    payload=st.sampled_from([None, "text", b"\x00"]),
    priority=st.sampled_from([0, 0, 1, -1]),
    execute_after=st.none() | times,
    queue=st.sampled_from(QUEUES),
)
keyed_jobs = st.builds(
    NewJob,
    entrypoint=entrypoints,
    priority=st.sampled_from([0, 1]),
    execute_after=st.none() | times,
    dedupe_key=st.sampled_from(["x", "y"]),
    dedupe_until=st.sampled_from(["finished", "started"]),
    queue=st.sampled_from(QUEUES),
)
some_ids = st.lists(st.integers(0, 9), min_size=1, max_size=4)
ages = st.sampled_from([0, 0, 1, 20]).map(lambda seconds: timedelta(seconds=seconds))
limits = st.one_of(
    st.none(),
    st.tuples(st.sampled_from([0, 1, 2, 3]), st.just(None), st.none()),
    st.tuples(st.sampled_from([0, 2]), st.sampled_from([0.25, 1.0, 2.0]), st.sampled_from([None, 1.0, 3.0])),
)
pauses: st.SearchStrategy[Pause] = st.sampled_from(
    [(name, queue) for name in (None, *ENTRYPOINTS) for queue in (None, *QUEUES) if name or queue]
)
