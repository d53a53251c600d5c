"""Jobs are enqueued on Django's own connection, in the transaction that it is in."""

from __future__ import annotations

import pytest
from django.db import transaction

from pgq_sync.contrib.django import DjangoPgQueuer
from tests.django.site.shop.models import Order
from tests.django.site.shop.tasks import place


def test_what_is_enqueued_in_a_transaction_comes_with_it(pgq: DjangoPgQueuer) -> None:
    with transaction.atomic():
        Order.objects.create(note="one")
        place.enqueue("receipt")
    assert pgq.jobs.count() == {(place.name, "queued"): 1}


def test_a_rollback_leaves_no_job(pgq: DjangoPgQueuer) -> None:
    with pytest.raises(KeyError), transaction.atomic():
        Order.objects.create(note="one")
        place.enqueue("receipt")
        raise KeyError
    assert not pgq.jobs.count()
    assert not Order.objects.exists()


def test_a_worker_runs_it(pgq: DjangoPgQueuer) -> None:
    job_id = place.enqueue("one")
    with pgq.worker(concurrency=2):
        assert pgq.result(job_id, timeout=20) == Order.objects.get(note="one").pk
