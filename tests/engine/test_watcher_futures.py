"""What the futures of a watcher are good for, and when its thread comes and goes."""

from __future__ import annotations

import concurrent.futures
import os
import pickle
import threading
import time
from concurrent.futures import CancelledError, Future, as_completed

import pytest

from pgq_sync import (
    Completion,
    CompletionWatcher,
    NewJob,
    PgQueuer,
    WaitEnded,
)
from pgq_sync.storage.jobs import check_id
from tests.engine.watching import NEVER, wait_until_kept
from tests.storage.support import ended, hand
from tests.waiting import PATIENCE, wait_until


def test_futures_are_waited_for_by_the_standard_library(either: PgQueuer, watcher: CompletionWatcher) -> None:
    ids = either.enqueue_many(NewJob(entrypoint="work") for _ in range(20))
    futures = [watcher.watch(job_id) for job_id in ids]
    with hand(either.store, "work") as one:
        claims = one.claim()
        one.settle(claims[:10])
        first = {future.result().job_id for _, future in zip(range(10), as_completed(futures, PATIENCE), strict=False)}
        assert first == set(ids[:10])
        one.settle(claims[10:])
    done, pending = concurrent.futures.wait(futures, PATIENCE)
    assert {future.result().job_id for future in done} == set(ids)
    assert not pending


def test_one_job_may_be_watched_several_times(either: PgQueuer, watcher: CompletionWatcher) -> None:
    job_id = either.enqueue("work")
    first, second, third = (watcher.watch(job_id) for _ in range(3))
    assert second.cancel()
    with CompletionWatcher(either) as another:
        fourth = another.watch(job_id)
        wait_until_kept(another, job_id)
        either.jobs.cancel([job_id])
        for future in (first, third, fourth):
            assert future.result(PATIENCE).status == "cancelled"
    assert second.cancelled()


def test_a_cancelled_future_is_done_for_those_who_wait_for_it(either: PgQueuer, watcher: CompletionWatcher) -> None:
    one, other = either.enqueue("work"), either.enqueue("work")
    futures = [watcher.watch(one), watcher.watch(other)]
    wait_until_kept(watcher, one, other)

    assert futures[0].cancel()
    assert concurrent.futures.wait(futures, PATIENCE, concurrent.futures.FIRST_COMPLETED).done == {futures[0]}
    either.jobs.cancel([one, other])
    assert futures[1].result(PATIENCE).job_id == other
    assert watcher.wait_for(one, PATIENCE).status == "cancelled"


def test_many_threads_cancel_while_jobs_end(either: PgQueuer, watcher: CompletionWatcher) -> None:
    ids = either.enqueue_many(NewJob(entrypoint="work") for _ in range(300))
    futures = [watcher.watch(job_id) for job_id in ids]
    wait_until_kept(watcher, *ids)
    with concurrent.futures.ThreadPoolExecutor(2) as pool, hand(either.store, "work") as one:
        pool.submit(one.settle, one.claim())
        cancelled = list(pool.map(Future.cancel, futures))
    assert not concurrent.futures.wait(futures, PATIENCE).not_done
    assert cancelled == [future.cancelled() for future in futures]
    assert watcher.wait_for(ids[0], PATIENCE).status == "succeeded"


def test_callbacks_that_raise_or_watch_or_set_futures_themselves_lose_no_other(
    either: PgQueuer, watcher: CompletionWatcher
) -> None:
    ids = either.enqueue_many(NewJob(entrypoint="work") for _ in range(4))
    futures = [watcher.watch(job_id) for job_id in ids]
    wait_until_kept(watcher, *ids)
    further: Future[Future[Completion]] = Future()

    def leave(_: object) -> None:
        raise SystemExit

    futures[0].add_done_callback(leave)
    futures[1].add_done_callback(lambda _: 1 / 0)
    futures[2].add_done_callback(lambda _: further.set_result(watcher.watch(ids[0])))
    futures[3].set_running_or_notify_cancel()
    either.jobs.cancel(ids)

    assert [future.result(PATIENCE).status for future in futures[:3]] == 3 * ["cancelled"]
    assert further.result(PATIENCE).result(PATIENCE).status == "cancelled"
    assert watcher.wait_for(ids[3], PATIENCE).status == "cancelled"


def test_leaving_the_block_cancels_what_is_pending(either: PgQueuer) -> None:
    job_id = either.enqueue("work")
    with CompletionWatcher(either, NEVER) as watcher:
        futures = [watcher.watch(job_id) for _ in range(2)]
        wait_until_kept(watcher, job_id)
        (watched,) = watcher._watched.values()
        started = time.monotonic()
    assert time.monotonic() - started < 2
    assert all(future.cancelled() for future in futures)
    assert len(concurrent.futures.wait(futures, 0).done) == 2
    assert watched.thread.join(5)  # seconds: well before an idle one ends
    for refused in (watcher.watch, watcher.wait_for):
        with pytest.raises(WaitEnded, match=f"job {job_id} is not waited for: .* was closed; wait anew, by a new watcher"):
            refused(job_id)
    watcher.close()


def test_a_block_may_be_left_by_a_callback(either: PgQueuer) -> None:
    watcher = CompletionWatcher(either)
    job_id = either.enqueue("work")
    future = watcher.watch(job_id)
    wait_until_kept(watcher, job_id)
    future.add_done_callback(lambda _: watcher.close())
    either.jobs.cancel([job_id])
    assert future.result(PATIENCE).status == "cancelled"
    wait_until(lambda: "pgq-watcher" not in threads())


def test_all_callers_share_one_thread_which_ends_when_nobody_waits(either: PgQueuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgq_sync.engine.vigil.IDLE", 0.2)
    ids = either.enqueue_many(NewJob(entrypoint="work") for _ in range(20))
    for _ in range(2):
        with concurrent.futures.ThreadPoolExecutor(20) as pool:
            waits = [pool.submit(either.wait, job_id, PATIENCE) for job_id in ids]
            wait_until(lambda: "pgq-watcher" in threads())
            assert threads().count("pgq-watcher") == 1
            either.jobs.cancel(ids)
            assert {wait.result(PATIENCE).status for wait in waits} == {"cancelled"}
        wait_until(lambda: "pgq-watcher" not in threads())


def test_a_closed_application_ends_its_waits_and_opens_again(either: PgQueuer) -> None:
    job_id = either.enqueue("work")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        wait = pool.submit(either.wait, job_id)
        wait_until(lambda: "pgq-watcher" in threads())
        either.close()
        with pytest.raises(WaitEnded, match=f"job {job_id} is not waited for: the application, .* was closed") as ended_by:
            wait.result(PATIENCE)
    assert isinstance(ended_by.value, CancelledError)
    assert pickle.loads(pickle.dumps(ended_by.value)).job_id == job_id
    wait_until(lambda: "pgq-watcher" not in threads())
    either.jobs.cancel([job_id])
    assert either.wait(job_id, PATIENCE).status == "cancelled"
    either.close()


def test_an_application_that_is_closed_just_as_one_begins_to_wait_says_so(
    either: PgQueuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = ended(either, "succeeded")

    def closed_first(given: object) -> int:
        either.close()
        return check_id(given)

    with monkeypatch.context() as patch, pytest.raises(WaitEnded, match=f"job {job_id} is not waited for: the application"):
        patch.setattr("pgq_sync.engine.watcher.check_id", closed_first)
        either.wait(job_id, PATIENCE)
    assert either.wait(job_id, PATIENCE).status == "succeeded"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_waits_for_itself(either: PgQueuer) -> None:
    job_id = ended(either, "succeeded")
    pending = either.enqueue("later")
    with CompletionWatcher(either) as watcher:
        future = watcher.watch(pending)
        assert either.wait(job_id, PATIENCE).status == "succeeded"
        if not (child := os.fork()):
            try:
                assert either.wait(job_id, 10).status == "succeeded"
                with pytest.raises(RuntimeError, match="works in the process that made it"):
                    watcher.watch(job_id)
                watcher.close()
                either.close()
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        either.jobs.cancel([pending])
        assert future.result(PATIENCE).status == "cancelled"
        assert either.wait(job_id, PATIENCE).status == "succeeded"


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate()]
