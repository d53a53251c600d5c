"""A process that saves a row and enqueues in one `atomic` is killed: both are there, or neither."""

from __future__ import annotations

import random

from pgq_sync.contrib.django import DjangoPgQueuer
from tests.django.project import environment, running
from tests.storage.support import query

KILLS = 20
SAVE_AND_WAIT = """
import django
django.setup()
from django.db import transaction
from tests.django.site.shop.models import Order
from tests.django.site.shop.tasks import place
with transaction.atomic():
    Order.objects.create(note="saved")
    place.enqueue("enqueued")
    print("ready", flush=True)
    input()
print("committed", flush=True)
input()
"""
SAVE_FOR_EVER = """
import django
django.setup()
from django.db import transaction
from tests.django.site.shop.models import Order
from tests.django.site.shop.tasks import place
print("ready", flush=True)
while True:
    with transaction.atomic():
        order = Order.objects.create(note="saved")
        place.enqueue(str(order.pk))
"""
PAIRS = """
    select count(*), count(*) filter (where shop_order.id is null), count(*) filter (where pgq_job.id is null)
    from shop_order full join pgq_job on convert_from(payload, 'UTF8')::jsonb ->> 'note' = shop_order.id::text
"""


def test_a_crash_before_the_commit_leaves_neither(pgq: DjangoPgQueuer, site_dsn: str) -> None:
    with running("-c", SAVE_AND_WAIT, env=environment(site_dsn)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.kill()
        process.wait()
    assert query(site_dsn, "select (select count(*) from shop_order), (select count(*) from pgq_job)") == [(0, 0)]


def test_kills_at_any_moment_leave_rows_and_jobs_in_pairs(pgq: DjangoPgQueuer, site_dsn: str) -> None:
    for _ in range(KILLS // 4):
        processes = [running("-c", SAVE_FOR_EVER, env=environment(site_dsn)) for _ in range(4)]
        entered = [each.__enter__() for each in processes]
        for process in entered:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in entered:
            seen = query(site_dsn, "select count(*) from shop_order")[0][0]
            while query(site_dsn, "select count(*) from shop_order")[0][0] < seen + random.randrange(1, 10):
                pass  # they go on meanwhile
            process.kill()
            process.wait()
        for each in processes:
            each.__exit__(None, None, None)
    pairs, without_row, without_job = query(site_dsn, PAIRS)[0]
    assert pairs >= KILLS
    assert (without_row, without_job) == (0, 0)
