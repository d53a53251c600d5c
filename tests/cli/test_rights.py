"""What is said to a database user who lacks a right: who that is, and what gives it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pgq_sync import PgQueuer, SchemaError, Settings
from tests.cli.console import Console
from tests.storage.roles import granted, login

APPLICATION = """
from pgq_sync import PgQueuer

pgq = PgQueuer.from_dsn()

@pgq.entrypoint("work")
def work(job):
    pass
"""


@pytest.fixture
def nobody(dsn: str) -> Iterator[tuple[str, str]]:
    with login(dsn, "nobody") as made:
        yield made


@pytest.mark.parametrize(
    "command", ["enqueue work", "jobs", "held", "requeue 1", "workers", "pause -q mail", "worker shop:pgq --mode drain"]
)
def test_a_user_without_rights_is_named_with_what_gives_them(tmp_path: Path, nobody: tuple[str, str], command: str) -> None:
    name, dsn = nobody
    console = Console(tmp_path, PGQ_DSN=dsn)
    console.write("shop.py", APPLICATION)
    complaint = console.refused(*command.split(), code=1).splitlines()[-1]
    assert complaint.startswith("permission denied for table pgq_")
    assert complaint.endswith(
        f": the user is {name}; `pgq-sync sql grants` prints what the owner of the tables has to run for it"
    )


def test_who_may_not_make_tables_is_told_nothing_of_grants(tmp_path: Path, nobody: tuple[str, str]) -> None:
    name, dsn = nobody
    complaint = Console(tmp_path, PGQ_DSN=dsn).refused("install", "--schema", "other", code=1)
    assert complaint.startswith("permission denied for database")
    assert complaint.endswith(f": the user is {name}")


def test_a_worker_without_the_right_to_claim_is_told_so_at_its_start(empty_dsn: str) -> None:
    with (
        granted(empty_dsn, Settings(prefix="my_"), "operator") as role,
        PgQueuer.from_dsn(role.dsn, settings=Settings(prefix="my_")) as pgq,
    ):
        pgq.entrypoint("work")(lambda job: None)
        with pytest.raises(
            SchemaError,
            match=r"^permission denied for table my_worker: the user is .*; `pgq-sync sql grants --prefix my_` prints",
        ):
            pgq.drain()
