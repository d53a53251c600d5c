"""What the site's worker runs."""

from __future__ import annotations

from django.db import connection, transaction

from pgq_sync.contrib.django import pgq
from tests.django.site.shop.models import Order


@pgq.task()
def place(note: str) -> int:
    return int(Order.objects.create(note=note).pk)


@pgq.task(transactional=True)
def place_and_finish(note: str) -> int:
    return int(Order.objects.create(note=note).pk)


@pgq.task()
def leave_open(how: str) -> None:
    if how == "atomic":
        transaction.atomic().__enter__()
    elif how == "autocommit":
        transaction.set_autocommit(False)
    Order.objects.create(note="left open")
    if how == "broken":
        connection.connection.close()


@pgq.task(transactional=True)
def place_and_undo(note: str) -> None:
    Order.objects.create(note=note)
    transaction.set_rollback(True)
