"""Workers that die, are cut off or are only silent: whose jobs others take over, and when, and what they do on their return."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from pgq_sync import Context, Job, NewJob, PgQueuer
from pgq_sync.engine.worker import Worker
from tests.network.proxy import Proxy, proxied
from tests.storage.support import hand, query, record, wait_until_gone, worker
from tests.waiting import PATIENCE, wait_until

LIMIT = timedelta(seconds=1)
SHORT: dict[str, Any] = {"beat_interval": timedelta(seconds=0.2), "liveness_limit": LIMIT}
NEVER = timedelta(hours=1)
JOURNAL = """
    create table journal (what text, at timestamptz default clock_timestamp());
    create function note() returns trigger language plpgsql as $$ begin
        insert into journal (what) values (tg_argv[0]);
        return null;
    end $$;
    create trigger note_beat after update of beat_at on pgq_worker for each row execute function note('beat');
    create trigger note_rescue after update of rescues on pgq_job for each row execute function note('rescue');
"""


@pytest.fixture
def proxy(dsn: str) -> Iterator[Proxy]:
    """A proxy in front of this test's database."""
    with proxied(dsn) as proxy:
        yield proxy


@pytest.fixture
def far(proxy: Proxy) -> Iterator[PgQueuer]:
    """An application behind the proxy."""
    with PgQueuer.from_dsn(proxy.dsn) as application:
        yield application


def dies(pgq: PgQueuer, dsn: str) -> None:
    """A worker that claims everything and is never heard of again."""
    victim = worker("work", liveness_limit=LIMIT)
    pgq.store.register(victim)
    with hand(pgq.store, who=victim) as one:
        assert one.claim()
    wait_until_gone(dsn, victim.worker_id)


def succeeded(pgq: PgQueuer, entrypoint: str, jobs: int) -> bool:
    return pgq.jobs.count().get((entrypoint, "succeeded")) == jobs


@contextmanager
def away(proxy: Proxy) -> Iterator[None]:
    """The database cannot be reached."""
    proxy.refuse()
    proxy.cut()
    yield
    proxy.restore()


def test_jobs_of_a_process_that_was_killed_run_again(pgq: PgQueuer, dsn: str) -> None:
    script = (
        "import sys, time; from pgq_sync import PgQueuer\n"
        "pgq = PgQueuer.from_dsn(sys.argv[1])\n"
        "@pgq.entrypoint('work')\n"
        "def work(job):\n"
        "    print('running', flush=True)\n"
        "    time.sleep(600)\n"
        "from datetime import timedelta\n"
        "pgq.run(beat_interval=timedelta(seconds=0.2), liveness_limit=timedelta(seconds=1))\n"
    )

    pgq.entrypoint("work")(lambda job: None)
    job_id = pgq.enqueue("work")
    with subprocess.Popen([sys.executable, "-c", script, dsn], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        with pgq.worker(**SHORT):
            process.kill()
            wait_until(lambda: record(pgq, job_id).finished_at)
    done = record(pgq, job_id)
    assert (done.status, done.attempts) == ("succeeded", 1)
    assert [error["type"] for error in done.errors] == ["WorkerDied"]


def test_after_an_outage_nobody_is_rescued_before_the_rescuer_itself_was_well_for_one_limit(
    pgq: PgQueuer, far: PgQueuer, dsn: str, proxy: Proxy
) -> None:
    far.entrypoint("other")(lambda job: None)
    query(dsn, JOURNAL)
    with far.worker(**SHORT, name="rescuer"):
        wait_until(lambda: query(dsn, "select what from journal"))
        with away(proxy):
            pgq.enqueue("work")
            dies(pgq, dsn)
            silent = "select count(*) from pgq_worker where beat_at < now() - liveness_limit having count(*) = 2"
            wait_until(lambda: query(dsn, silent))
            query(dsn, "truncate journal")
        wait_until(lambda: query(dsn, "select what from journal where what = 'rescue'"))
    ((passed,),) = query(dsn, "select min(at) filter (where what = 'rescue') - min(at) filter (where what = 'beat') from journal")
    assert passed >= LIMIT


def test_a_worker_that_cannot_beat_is_not_dead_while_its_session_stands_and_drops_what_it_lost_when_it_is_cut_off(
    pgq: PgQueuer, far: PgQueuer, proxy: Proxy
) -> None:
    running, told, finish = threading.Event(), threading.Event(), threading.Event()
    ran: list[Job] = []

    @far.entrypoint("work")
    def work(job: Job, context: Context) -> None:
        ran.append(job)
        if job.payload == b"long":
            running.set()
            assert context.cancelled.wait(PATIENCE)
            told.set()
            assert finish.wait(PATIENCE)

    pgq.entrypoint("work")(lambda job: None)
    pgq.entrypoint("other")(lambda job: None)
    pgq.enqueue_many(NewJob(entrypoint="work") for _ in range(200))
    long = pgq.enqueue("work", b"long")
    waiting = pgq.enqueue_many(NewJob(entrypoint="work") for _ in range(50))
    # Without beats nothing but the session shows that it lives; nor does it give back what it has claimed ahead.
    mute = far.worker(concurrency=1, **SHORT)
    mute._keeper._beat_interval = NEVER.total_seconds()
    with mute:
        assert running.wait(PATIENCE)
        wait_until(lambda: ("work", "queued") not in pgq.jobs.count())
        with pgq.worker(**SHORT) as rescuer:
            nobody_is_rescued(pgq, rescuer)
            with away(proxy):
                wait_until(lambda: succeeded(pgq, "work", 251))
            assert told.wait(PATIENCE)
            finish.set()
        lost = mute.stop().counts

    assert lost == {"succeeded": 200, "lost": 51}
    assert rescuer.stop().counts["succeeded"] >= 51
    assert [job.id for job in ran if job.id >= long] == [long]
    assert {record(pgq, job_id).worker_id for job_id in waiting} == {rescuer.info.worker_id}


def nobody_is_rescued(pgq: PgQueuer, rescuer: Worker) -> None:
    """Waits until the rescuer has had every reason to rescue; it has put back nothing."""
    store, asked = pgq.store, 0
    rescue = rescuer._store.rescue

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal asked
        found = rescue(*arguments, **options)
        assert not found
        asked += 1
        return found

    rescuer._store.rescue = counted  # type: ignore[method-assign]
    wait_until(lambda: asked >= 3)
    rescuer._store.rescue = rescue  # type: ignore[method-assign]
    assert len(store.workers()) == 2


@pytest.mark.parametrize(
    ("limited", "marker"),
    [(0, b"as lane(queue text"), (1, b"Q\x00\x00\x00\x0bcommit\x00")],
    ids=["a plain claim", "the commit of a limited one"],
)
def test_a_job_whose_claim_was_not_answered_runs_all_the_same(
    far: PgQueuer, pgq: PgQueuer, proxy: Proxy, limited: int, marker: bytes
) -> None:
    far.entrypoint("work", concurrency_limit=limited)(lambda job: None)
    with far.worker(poll_interval=NEVER) as running:
        assert running.listening.wait(PATIENCE)
        claimed = proxy.cut_after(marker)
        job_id = pgq.enqueue("work")
        assert claimed.wait(PATIENCE)
        wait_until(lambda: succeeded(pgq, "work", 1))
    assert (record(pgq, job_id).attempts, record(pgq, job_id).errors) == (1, [])
    assert running.stop().counts == {"succeeded": 1}


def test_a_limited_job_runs_whose_listener_was_cut_off_right_after_it_was_claimed(
    far: PgQueuer, pgq: PgQueuer, proxy: Proxy
) -> None:
    far.entrypoint("limited", concurrency_limit=1)(lambda job: None)
    far.entrypoint("work")(lambda job: None)
    # The limited lane comes first; its claim is committed when the other one's answer is lost.
    for _ in range(3):
        pgq.enqueue("limited", priority=1)
    pgq.enqueue("work")
    claimed = proxy.cut_after(b"as lane(queue text")
    with far.worker(poll_interval=NEVER):
        assert claimed.wait(PATIENCE)
        wait_until(lambda: succeeded(pgq, "limited", 3) and succeeded(pgq, "work", 1))


def test_a_dead_worker_is_told_of_once(pgq: PgQueuer, dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    pgq.entrypoint("work")(lambda job: None)
    pgq.enqueue("work")
    dies(pgq, dsn)
    (victim,) = pgq.store.workers()
    with pgq.worker(**SHORT):
        wait_until(lambda: victim.worker_id not in [each.worker_id for each in pgq.store.workers()])
    told = [each.getMessage() for each in caplog.records if "dead" in each.getMessage()]
    assert told == [f"worker {victim.name} is dead: 1 of its jobs put back"]
