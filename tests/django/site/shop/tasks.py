"""What the site's worker runs."""

from __future__ import annotations

from pgq_sync.contrib.django import pgq
from tests.django.site.shop.models import Order


@pgq.task()
def place(note: str) -> int:
    return int(Order.objects.create(note=note).pk)


@pgq.task(transactional=True)
def place_and_finish(note: str) -> int:
    return int(Order.objects.create(note=note).pk)
