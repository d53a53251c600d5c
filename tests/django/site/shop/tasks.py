"""What the site's worker runs."""

from __future__ import annotations

from functools import partial

from django.db import connection, transaction

from pgq_sync import Cancelled, Context, DatabaseRetry, Job, ProcessExecutor
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


@pgq.entrypoint("in a process", executor_factory=partial(ProcessExecutor, max_workers=1), store_result=True)
def in_a_process(job: Job) -> int:
    return int(Order.objects.create(note=(job.payload or b"").decode()).pk)


@pgq.task(transactional=True)
def place_then_fail_late(note: str) -> None:
    Order.objects.create(note=note)
    transaction.on_commit(_fail)


@pgq.task(transactional=True)
def place_and_ask(context: Context, note: str) -> str:
    Order.objects.create(note=note)
    context.enqueue(place.name, place.payload(note))
    return type(context.connection).__module__


@pgq.task(transactional=True)
def place_and_raise(note: str) -> None:
    Order.objects.create(note=note)
    raise ValueError(note)


@pgq.task(timeout=0.3)
def sleep_in_a_query() -> None:
    with connection.cursor() as cursor:
        cursor.execute("select pg_sleep(60)")


def _fail() -> None:
    raise ValueError("after the commit")


@pgq.task(retry=DatabaseRetry(max_attempts=50, initial_delay=0.05, max_delay=0.2))
def place_whatever_happens(note: str) -> None:
    Order.objects.create(note=note)


@pgq.task()
def spoil() -> None:
    Order.objects.create(note="spoilt")
    Order(pk=Order.objects.get().pk).save(force_insert=True)


@pgq.task(timeout=0.3, transactional=True)
def sleep_in_a_transaction() -> None:
    Order.objects.create(note="slow")
    with connection.cursor() as cursor:
        cursor.execute("select pg_sleep(60)")


@pgq.task()
def backend_pid() -> int:
    with connection.cursor() as cursor:
        cursor.execute("select pg_backend_pid()")
        return int(cursor.fetchone()[0])


@pgq.task()
def nothing() -> None:
    pass


@pgq.task(transactional=True)
def place_then_cancel_late(note: str) -> None:
    Order.objects.create(note=note)
    transaction.on_commit(_cancel)


def _cancel() -> None:
    raise Cancelled("after the commit")
