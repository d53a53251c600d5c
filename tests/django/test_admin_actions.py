"""What users of the admin do to jobs and schedules: who may, what is said, what is written down, and that a GET does nothing."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from pgq_sync.contrib.django import DjangoPgQueuer
from tests.django.clients import STEER, VIEW, client, listing, page, text
from tests.django.test_admin_pages import history
from tests.storage.support import query

SCHEDULES = ("change_schedule", "delete_schedule")


def act(browser: Client, model: str, action: str, *keys: Any, **more: Any) -> str:
    """Does it, as the list's form would; returns the page that follows."""
    data = {"action": action, "index": 0, "_selected_action": list(keys)} | more
    return text(browser.post(listing(model), data, follow=True))


def noted() -> list[tuple[str, str]]:
    """What the admin's history says."""
    return [(entry.object_id, entry.change_message) for entry in LogEntry.objects.order_by("pk")]


def test_cancel_tells_of_each_job_what_became_of_it(pgq: DjangoPgQueuer, site_dsn: str) -> None:
    waiting, running = pgq.enqueue("work"), pgq.enqueue("work")
    query(site_dsn, "update pgq_job set status = 'running', claimed_at = now() where id = %s", [running])
    said = act(client(), "unfinishedjob", "cancel", waiting, running, 77)
    assert f"Job {waiting}: cancelled" in said
    assert f"Job {running}: it runs, and was asked to end" in said
    assert "Job 77: finished already, or never there" in said
    assert query(site_dsn, "select job_id from pgq_cancel") == [(running,)]
    assert pgq.jobs.count() == {("work", "cancelled"): 1, ("work", "running"): 1}
    assert sorted(noted()) == [(str(waiting), "Cancelled."), (str(running), "Cancelled.")]


def test_delete_refuses_what_runs(pgq: DjangoPgQueuer, site_dsn: str) -> None:
    waiting, running = pgq.enqueue("work"), pgq.enqueue("work")
    query(site_dsn, "update pgq_job set status = 'running', claimed_at = now() where id = %s", [running])
    said = act(client(), "unfinishedjob", "erase", waiting, running)
    assert f"Job {waiting}: deleted" in said
    assert f"Job {running}: it runs, and is not deleted: cancel asks it to end" in said
    assert pgq.jobs.count() == {("work", "deleted"): 1, ("work", "running"): 1}
    assert noted() == [(str(waiting), "Deleted.")]


def test_history_is_deleted(pgq: DjangoPgQueuer, site_dsn: str) -> None:
    said = act(client(), "finishedjob", "erase", history(site_dsn), 77)
    assert "Job 900001: deleted" in said
    assert "Job 77: there is no such job any more" in said
    assert not pgq.jobs.count()


def test_requeue_puts_held_jobs_back(pgq: DjangoPgQueuer, site_dsn: str) -> None:
    held = pgq.enqueue("work")
    query(site_dsn, "update pgq_job set status = 'held'")
    assert f"Job {held}: put back" in act(client(), "unfinishedjob", "requeue", held)
    assert pgq.jobs.count() == {("work", "queued"): 1}
    assert noted() == [(str(held), "Requeued.")]


def test_requeue_tells_of_failed_jobs_what_became_of_them(pgq: DjangoPgQueuer, site_dsn: str) -> None:
    history(site_dsn, id=901, dedupe_key=None)
    history(site_dsn, id=902, dedupe_key="taken", dedupe_until="finished")
    history(site_dsn, id=903, status="succeeded")
    pgq.enqueue("work", dedupe_key="taken")
    browser = client()
    said = act(browser, "finishedjob", "requeue", 901, 902, 903)
    new = query(site_dsn, "select requeued_as from pgq_history where id = 901")[0][0]
    assert f"Job 901 (now {new}): put back under a new id" in said
    assert "Job 902: its dedupe key is taken by another unfinished job" in said
    assert "Job 903: neither held nor failed" in said
    assert noted() == [("901", "Requeued.")]
    assert f"Job 901 (as {new}): was put back before" in act(browser, "finishedjob", "requeue", 901)


def test_from_its_page_a_job_is_cancelled_and_the_page_follows_it(pgq: DjangoPgQueuer) -> None:
    browser = client(enforce_csrf_checks=True)
    job_id = pgq.enqueue("work")
    shown = text(browser.get(page("unfinishedjob", job_id)))
    assert '<input type="hidden" name="action" value="cancel">' in shown
    data = {"action": "cancel", "index": 0, "_selected_action": job_id, "_from_page": 1}
    assert browser.post(listing("unfinishedjob"), data).status_code == 403  # without the token
    assert pgq.jobs.count() == {("work", "queued"): 1}
    token = browser.cookies["csrftoken"].value
    response = browser.post(listing("unfinishedjob"), data | {"csrfmiddlewaretoken": token}, follow=True)
    assert response.redirect_chain[-1][0] == page("finishedjob", job_id)
    assert "cancelled, and will not run" in text(response)


@pytest.mark.parametrize("action", ["cancel", "requeue", "erase", "pause_entrypoint"])
def test_a_get_changes_nothing(action: str, pgq: DjangoPgQueuer, site_dsn: str) -> None:
    job_id = pgq.enqueue("work")
    query(site_dsn, "update pgq_job set status = 'held'")
    data = {"action": action, "index": 0, "_selected_action": job_id}
    assert client().get(listing("unfinishedjob"), data).status_code == 400
    assert pgq.jobs.count() == {("work", "held"): 1}
    assert not pgq.limits.list()
    assert not noted()


@pytest.mark.parametrize("action", ["cancel", "requeue", "erase", "pause_entrypoint", "delete_selected"])
def test_who_may_only_view_steers_nothing(action: str, pgq: DjangoPgQueuer, site_dsn: str) -> None:
    job_id = pgq.enqueue("work")
    query(site_dsn, "update pgq_job set status = 'held'")
    browser = client([*VIEW, "view_payload"])
    assert f'value="{action}"' not in text(browser.get(page("unfinishedjob", job_id)))
    act(browser, "unfinishedjob", action, job_id)
    assert pgq.jobs.count() == {("work", "held"): 1}
    assert not pgq.limits.list()


def test_who_may_change_may_not_delete(pgq: DjangoPgQueuer) -> None:
    job_id = pgq.enqueue("work")
    browser = client(["change_unfinishedjob"])
    act(browser, "unfinishedjob", "erase", job_id)
    assert pgq.jobs.count() == {("work", "queued"): 1}
    act(browser, "unfinishedjob", "cancel", job_id)
    assert pgq.jobs.count() == {("work", "cancelled"): 1}


def test_steering_says_nothing_of_what_is_in_a_job(pgq: DjangoPgQueuer, site_dsn: str) -> None:
    pgq.enqueue("work", "zq-secret", dedupe_key="zq-secret", headers={"a": "zq-secret"})
    history(site_dsn, dedupe_key="zq-secret", dedupe_until="finished")
    browser = client([*VIEW, *STEER])
    assert "zq-secret" not in act(browser, "finishedjob", "requeue", 900_001)
    assert "zq-secret" not in act(browser, "unfinishedjob", "cancel", 1)
    assert "zq-secret" not in str(noted()) + str(list(LogEntry.objects.values_list("object_repr", flat=True)))


def test_all_of_a_list_is_never_meant(pgq: DjangoPgQueuer) -> None:
    job_id = pgq.enqueue("work")
    said = act(client(), "unfinishedjob", "cancel", job_id, select_across=1)
    assert "nothing was done" in said
    assert pgq.jobs.count() == {("work", "queued"): 1}


@pytest.mark.parametrize("key", ["x", "-1", "9" * 30, "1 or 1=1"])
def test_what_is_no_id_is_passed_over(key: str, pgq: DjangoPgQueuer) -> None:
    pgq.enqueue("work")
    client(raise_request_exception=True).post(
        listing("finishedjob"), {"action": "erase", "index": 0, "_selected_action": key, "_from_page": 1}
    )
    assert pgq.jobs.count() == {("work", "queued"): 1}


def test_an_entrypoint_is_paused_and_resumed(pgq: DjangoPgQueuer) -> None:
    job_id = pgq.enqueue("work")
    browser = client()
    assert "Entrypoint work: paused" in act(browser, "unfinishedjob", "pause_entrypoint", job_id)
    assert [(limit.entrypoint, limit.paused_at is not None) for limit in pgq.limits.list()] == [("work", True)]
    assert "Entrypoint work: was paused already" in act(browser, "unfinishedjob", "pause_entrypoint", job_id)
    assert "Entrypoint work: resumed" in act(browser, "unfinishedjob", "resume_entrypoint", job_id)
    assert not [limit for limit in pgq.limits.list() if limit.paused_at]
    assert len(noted()) == 2


def test_schedules_are_steered(pgq: DjangoPgQueuer, site_dsn: str) -> None:
    pgq.schedules.add("nightly", "0 3 * * *", entrypoint="work")
    (key,) = (row[0] for row in query(site_dsn, "select id from pgq_schedule"))
    browser = client([*VIEW, *SCHEDULES])
    assert "Schedule nightly 0 3 * * *: paused" in act(browser, "schedule", "pause", key)
    assert pgq.schedules.list()[0].paused_at is not None
    assert "was paused already" in act(browser, "schedule", "pause", key)
    assert ": resumed" in act(browser, "schedule", "resume", key)
    assert pgq.schedules.list()[0].paused_at is None
    assert ": enqueued as job 1" in act(browser, "schedule", "run_now", key)
    assert pgq.jobs.count() == {("work", "queued"): 1}
    assert ": removed" in act(browser, "schedule", "remove", key)
    assert not pgq.schedules.list()
    assert [said for _, said in noted()] == ["Paused.", "Resumed.", "Enqueued as job 1.", "Removed."]


@pytest.mark.parametrize("action", ["pause", "run_now", "remove"])
def test_who_may_only_view_schedules_steers_none(action: str, pgq: DjangoPgQueuer, site_dsn: str) -> None:
    pgq.schedules.add("nightly", "0 3 * * *", entrypoint="work")
    act(client(VIEW), "schedule", action, query(site_dsn, "select id from pgq_schedule")[0][0])
    assert [each.paused_at for each in pgq.schedules.list()] == [None]
    assert not pgq.jobs.count()
