"""The examples of docs/tasks.md run as they stand there, one after the other."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import psycopg
import pytest

from pgq_sync import PgQueuer
from tests.storage.support import query

PAGE = Path(__file__).parents[2] / "docs" / "tasks.md"


def test_the_examples_run(pgq: PgQueuer, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("shop.jobs")
    monkeypatch.setitem(sys.modules, "shop.jobs", module)
    query(dsn, "create table orders (id bigint)")
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) > 5
    with psycopg.connect(dsn) as connection:
        names = vars(module) | {"pgq": pgq, "connection": connection}
        for block in blocks:
            exec(compile(block, str(PAGE), "exec", dont_inherit=True), names)
        connection.rollback()
    place_order = names["place_order"]
    place_order.enqueue(500)
    pgq.drain()

    # 8 waits for its minute, 9 was rolled back, 500 came by the handler's transaction.
    receipts = 2 + 2 + 100 + 1
    assert pgq.jobs.count() == {
        ("shop.jobs.send_receipt", "succeeded"): receipts,
        ("shop.jobs.send_receipt", "queued"): 1,
        ("shop.jobs.invoice", "succeeded"): 3,
        ("shop.jobs.place_order", "succeeded"): 1,
    }
    assert query(dsn, "select id from orders") == [(500,)]
    assert {record.result for record in pgq.jobs.find(entrypoint="shop.jobs.invoice")} == {"0.10", "0"}
