"""Tasks of Django, which the site's worker finds here."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connection

from pgq_sync import Cancelled, DatabaseRetry, Hold
from pgq_sync.contrib.django.backend import PgqTaskContext, task
from tests.django.site.shop.models import Order

AT_ONCE = DatabaseRetry(max_attempts=3, initial_delay=0)


@task
def send(to: str, *, copies: int = 1) -> list[Any]:
    return [to, copies]


@task(takes_context=True)
def attempts(context: PgqTaskContext) -> list[Any]:
    return [context.attempt, context.pgq.job.queue]


@task()
def echo(value: Any = None) -> Any:
    return value


@task()
def unkeepable(number: int) -> Any:
    return [float("nan"), "\0", {1: 2}, {"set"}][number]


@task()
def refused() -> None:
    raise ConnectionRefusedError("no")


@task()
def place_order(note: str) -> int:
    return int(Order.objects.create(note=note).pk)


@task(retry=AT_ONCE, takes_context=True)
def third_time(context: PgqTaskContext) -> int:
    if context.attempt < 3:
        raise LookupError(f"attempt {context.attempt}")
    return len(context.task_result.errors)


@task(retry=AT_ONCE)
def never() -> None:
    raise LookupError("never")


@task(on_failure="hold")
def holds() -> None:
    raise LookupError("for a person")


@task()
def asks() -> None:
    raise Hold("for a person")


@task()
def ends() -> None:
    raise Cancelled("no more")


@task(timeout=0.2)
def spins() -> None:
    while True:
        threading.Event().wait(0.01)


@task(timeout=0.2)
async def dreams() -> None:
    await asyncio.sleep(1_000)


@task(transactional=True)
async def orders(note: str, fail: bool) -> int:
    order = await Order.objects.acreate(note=note)
    if fail:
        raise LookupError(note)
    return int(order.pk)


@task(transactional=True)
def orders_in_transaction(note: str) -> int:
    return int(Order.objects.create(note=note).pk)


def _key(to: str, **_: Any) -> str:
    return f"mail {to}"


@task(dedupe_key=_key)
def once(to: str, copies: int = 1) -> str:
    return to


@task(dedupe_key=lambda to: f"mail {to}", on_conflict="existing")
def same(to: str) -> str:
    return to


@task(keep_history=False)
def forgotten() -> None:
    pass


@task(timeout=0.3)
async def waits_for_a_query() -> None:
    await sync_to_async(_sleep_in_a_query)()


def _sleep_in_a_query() -> None:
    with connection.cursor() as cursor:
        cursor.execute("select pg_sleep(60)")
