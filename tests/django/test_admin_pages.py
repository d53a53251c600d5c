"""The admin's pages: what they show of jobs, workers and schedules, and what they keep from whom."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from pgq_sync.contrib.django import DjangoPgQueuer
from pgq_sync.storage.names import Names
from pgq_sync.storage.schema import script
from tests.django.clients import VIEW, client, listing, page, text
from tests.django.managing import manage, settings_with
from tests.storage.support import query

EVIL = "<script>alert(1)</script>"
SECRET = "zq-secret"
FAILURE = {"attempt": 1, "type": "ValueError", "message": f"{SECRET} message {EVIL}", "traceback": f"{SECRET} Traceback {EVIL}"}
MODELS = ("unfinishedjob", "finishedjob", "worker", "schedule")


def history(dsn: str, **values: Any) -> int:
    """Puts a job into history; returns its id."""
    row: dict[str, Any] = {
        "id": 900_001,
        "status": "failed",
        "entrypoint": "work",
        "queue": "default",
        "attempts": 1,
        "priority": 0,
        "payload": b'{"a": "%s"}' % SECRET.encode(),
        "headers": json.dumps({"trace": SECRET + EVIL}),
        "errors": json.dumps([FAILURE]),
        "result": json.dumps({"answer": SECRET}),
        "dedupe_key": SECRET + "-key",
    } | values
    columns = ", ".join(row)
    places = ", ".join(f"%({name})s" for name in row)
    sql = f"insert into pgq_history ({columns}, finished_at, execute_after, created_at, claimed_at)"
    query(dsn, f"{sql} values ({places}, now(), now(), now(), now())", row)
    return int(row["id"])


@pytest.fixture
def filled(pgq: DjangoPgQueuer, site_dsn: str) -> DjangoPgQueuer:
    """One of each."""
    pgq.enqueue("wait", f"{SECRET}{EVIL}", headers={"trace": SECRET}, dedupe_key=SECRET)
    query(site_dsn, "update pgq_job set errors = %s", [json.dumps([FAILURE])])
    history(site_dsn)
    pgq.schedules.add("nightly", "0 3 * * *", entrypoint="work", payload=SECRET)
    query(
        site_dsn,
        "insert into pgq_worker (worker_id, name, host, pid, version, entrypoints, slots)"
        " values (gen_random_uuid(), 'worker-one', 'here', 1, '0', '{served}', 3)",
    )
    return pgq


def test_lists_show_what_a_person_looks_for(filled: DjangoPgQueuer) -> None:
    browser = client()
    unfinished = text(browser.get(listing("unfinishedjob")))
    assert all(each in unfinished for each in ("queued", "wait", "default", "ValueError: " + SECRET))
    finished = text(browser.get(listing("finishedjob")))
    assert all(each in finished for each in ("failed", "work", "900001", "ValueError: " + SECRET))
    assert "worker-one" in text(browser.get(listing("worker")))
    assert all(each in text(browser.get(listing("schedule"))) for each in ("nightly", "0 3 * * *"))


def test_a_jobs_page_shows_what_is_in_it(filled: DjangoPgQueuer) -> None:
    browser = client()
    unfinished = text(browser.get(page("unfinishedjob", 1)))
    assert all(each in unfinished for each in (SECRET + EVIL, "trace", "Traceback", "ValueError"))
    finished = text(browser.get(page("finishedjob", 900_001)))
    assert all(each in finished for each in (f'"a": "{SECRET}"', f'"answer": "{SECRET}"', "Traceback"))


@pytest.mark.parametrize("address", [page("unfinishedjob", 1), page("finishedjob", 900_001), *map(listing, MODELS)])
def test_what_came_from_jobs_is_escaped(address: str, filled: DjangoPgQueuer) -> None:
    assert EVIL.encode() not in client().get(address).content


@pytest.mark.parametrize(
    ("payload", "shown"),
    [
        (b"\xff\x00\x10", "3 bytes: ff 00 10"),
        (b"plain", "plain"),
        (b'{"b":1}', '"b": 1'),
        (b"\x00" * 600, "600 bytes: 00 00"),
        (b"{broken", "{broken"),
        (b"[" * 100_000, "characters more"),
        (b"a\x1b[31m", "6 bytes: 61 1b"),
        (b"", "Payload"),
    ],
)
def test_a_payload_is_readable_whatever_it_is(payload: bytes, shown: str, pgq: DjangoPgQueuer) -> None:
    assert shown in text(client().get(page("unfinishedjob", pgq.enqueue("work", payload))))


def test_without_view_payload_nothing_in_a_job_is_shown(filled: DjangoPgQueuer, site_dsn: str) -> None:
    query(site_dsn, "update pgq_job set status = 'running'")
    query(site_dsn, "insert into pgq_progress (job_id, fraction, note) values (1, 0.5, %s)", [SECRET])
    keys = {"unfinishedjob": 1, "finishedjob": 900_001, "schedule": 1}
    blind, seeing = client(VIEW), client([*VIEW, "view_payload"])
    for model, key in keys.items():
        assert SECRET not in text(blind.get(listing(model)))
        assert SECRET not in text(blind.get(page(model, key)))
        assert SECRET in text(seeing.get(page(model, key)))
    assert "50%" in text(blind.get(listing("unfinishedjob")))


def test_without_view_payload_a_search_finds_no_keys(filled: DjangoPgQueuer) -> None:
    blind, seeing = client(VIEW), client([*VIEW, "view_payload"])
    for model, key in (("unfinishedjob", SECRET), ("finishedjob", SECRET + "-key")):
        found = page(model, 1 if model == "unfinishedjob" else 900_001)
        assert found not in text(blind.get(listing(model), {"q": key}))
        assert found in text(seeing.get(listing(model), {"q": key}))


@pytest.mark.parametrize(
    "lookup", ["payload__contains", "headers__trace", "errors__0__message__startswith", "dedupe_key", "queue__in"]
)
@pytest.mark.parametrize("model", ["unfinishedjob", "finishedjob"])
def test_no_column_is_looked_into_by_the_address(model: str, lookup: str, filled: DjangoPgQueuer) -> None:
    assert client().get(listing(model), {lookup: "a"}).status_code == 400


@pytest.mark.parametrize("model", MODELS)
def test_who_may_not_view_sees_nothing(model: str, filled: DjangoPgQueuer) -> None:
    assert client(["view_payload"]).get(listing(model)).status_code == 403


@pytest.mark.parametrize("model", MODELS)
def test_there_are_no_forms(model: str, filled: DjangoPgQueuer) -> None:
    browser = client()
    key = {"unfinishedjob": 1, "finishedjob": 900_001, "schedule": 1}.get(model)
    assert browser.get(listing(model) + "add/").status_code == 403
    if key is not None:
        assert browser.post(page(model, key), {"queue": "other"}).status_code == 403
        assert browser.post(page(model, key).replace("change", "delete"), {"post": "yes"}).status_code == 403
    assert filled.jobs.count() == {("wait", "queued"): 1, ("work", "failed"): 1}


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        *[
            ({}, [1, 2]),
            ({"status": "held"}, [2]),
            ({"status": "failed"}, []),
            ({"entrypoint": "one"}, [1]),
            ({"queue": "b"}, [2]),
        ],
        *[
            ({"q": "2"}, [2]),
            ({"q": "tw"}, [2]),
            ({"q": "key"}, [1]),
            ({"q": "9" * 30}, []),
            ({"q": "\u00b2"}, []),
            ({"queue": "\0"}, []),
            ({"before": "2"}, [1]),
        ],
    ],
)
def test_unfinished_jobs_are_filtered_and_searched(
    asked: dict[str, str], found: list[int], pgq: DjangoPgQueuer, site_dsn: str
) -> None:
    pgq.enqueue("one", dedupe_key="key")
    pgq.enqueue("two", queue="b")
    query(site_dsn, "update pgq_job set status = 'held' where id = 2")
    shown = text(client().get(listing("unfinishedjob"), asked))
    assert [key for key in (1, 2) if page("unfinishedjob", key) in shown] == found


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        *[({}, [1, 2]), ({"status": "failed"}, [1]), ({"status": "held"}, []), ({"entrypoint": "two"}, [2]), ({"q": "on"}, [1])],
        *[({"day": "2001-01-01"}, []), ({"before": "2"}, [1]), ({"status": "failed", "before": "2001-01-01T00:00:00Z"}, [])],
    ],
)
def test_history_is_filtered_and_searched(asked: dict[str, str], found: list[int], pgq: DjangoPgQueuer, site_dsn: str) -> None:
    history(site_dsn, id=1, entrypoint="one")
    history(site_dsn, id=2, entrypoint="two", status="succeeded", errors=None)
    shown = text(client().get(listing("finishedjob"), asked))
    assert [key for key in (1, 2) if page("finishedjob", key) in shown] == found


@pytest.mark.parametrize("asked", [{"day": "nonsense"}, {"before": "x"}, {"before": "-1"}, {"status": "failed", "before": "5"}])
def test_an_address_that_makes_no_sense_is_refused(asked: dict[str, str], filled: DjangoPgQueuer) -> None:
    assert client().get(listing("finishedjob"), asked).status_code == 302


def test_a_job_that_has_finished_meanwhile_is_found_on_the_other_page(filled: DjangoPgQueuer) -> None:
    browser = client()
    assert browser.get(page("unfinishedjob", 900_001)).url == page("finishedjob", 900_001)
    assert browser.get(page("finishedjob", 1)).url == page("unfinishedjob", 1)


def test_a_requeued_job_leads_to_the_old_one_and_back(filled: DjangoPgQueuer) -> None:
    new = filled.jobs.requeue([900_001]).requeued[900_001]  # type: ignore[index]
    browser = client()
    assert page("finishedjob", 900_001) in text(browser.get(page("unfinishedjob", new)))
    assert page("unfinishedjob", new) in text(browser.get(page("finishedjob", 900_001)))


@pytest.mark.parametrize("model", MODELS)
def test_without_tables_one_message_says_what_to_do(model: str, pgq: DjangoPgQueuer, site_dsn: str) -> None:
    browser = client()
    query(site_dsn, script("uninstall", Names()))
    for address in (listing(model), page(model, "00000000-0000-0000-0000-000000000001" if model == "worker" else 1)):
        said = text(browser.get(address, follow=True))
        assert said.count("Run `python manage.py migrate`") == 1
        assert "does not exist" in said


def test_the_admin_reads_from_the_database_that_has_the_queue(empty_dsn: str, site_dsn: str, tmp_path: Path) -> None:
    query(empty_dsn, script("install", Names()))
    query(empty_dsn, "insert into pgq_job (entrypoint) values ('over there')")
    connections.close_all()
    settings = settings_with(tmp_path, f"DATABASES['jobs'] = database_entry({empty_dsn!r})\nPGQ_SYNC = {{'DATABASE': 'jobs'}}")
    look = (
        "from tests.django.clients import client, listing, page, text\n"
        "browser = client()\n"
        "assert 'over there' in text(browser.get(listing('unfinishedjob')))\n"
        "assert 'over there' in text(browser.get(page('unfinishedjob', 1)))\n"
        "browser.post(listing('unfinishedjob'), {'action': 'cancel', 'index': 0, '_selected_action': 1})\n"
        "from pgq_sync.contrib.django import pgq\n"
        "print('found', dict(pgq.jobs.count()))"
    )
    assert "found {('over there', 'cancelled'): 1}" in manage(site_dsn, "shell", "-c", look, settings=settings)
