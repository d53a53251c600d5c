"""PostgreSQL reads from an array's literal what was written into it, whatever the driver."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.counting import recorded_statements
from pgq_sync import NewJob, PgQueuer
from pgq_sync.storage.arrays import blobs, booleans, floats, integers, texts

NASTY = [
    *(
        "",
        " ",
        "  around  ",
        "NULL",
        "null",
        "a,b",
        "{}",
        "{a}",
        '"',
        '""',
        "\\",
        "\\\\",
        '\\"',
        "\\x41",
        "'",
        "''",
        "%s",
        "%(a)s",
        "$1",
    ),
    *(
        "\n",
        "\r\n",
        "\t",
        "\x01",
        "\x7f",
        "ä",
        "€",
        "\U0001f418",
        "\u2028",
        "e\u0301",
        "E'\\''",
        "-- x",
        "}",
        "{",
        ",",
        '","',
        "[1:2]={",
    ),
]
SMALLEST, LARGEST = -(2**63), 2**63 - 1


@pytest.fixture(scope="module")
def reading(server: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(server, autocommit=True) as connection:
        yield connection


def read(connection: psycopg.Connection[Any], kind: str, literal: str) -> Any:
    # Sent as bytes, since psycopg's annotation asks for a literal.
    row = connection.execute(f"select %s::{kind}[]".encode(), [literal]).fetchone()
    assert row is not None
    return row[0]


storable = st.sampled_from(NASTY) | st.text(st.characters(codec="utf-8", exclude_characters="\0"))


@settings(max_examples=200, deadline=None)
@given(values=st.lists(storable) | st.lists(storable | st.none()))
def test_texts(reading: psycopg.Connection[Any], values: list[str | None]) -> None:
    assert read(reading, "text", texts(values)) == values


@pytest.mark.parametrize("others", [[], [None]], ids=["texts alone", "beside a null"])
def test_each_nasty_text(reading: psycopg.Connection[Any], others: list[None]) -> None:
    assert read(reading, "text", texts([*NASTY, *others])) == [*NASTY, *others]


@pytest.mark.parametrize("values", [["a\0b"], ["a", "b\0c"], ["\0"], [None, "\0"]])
def test_no_text_becomes_two(reading: psycopg.Connection[Any], values: list[str | None]) -> None:
    with pytest.raises(psycopg.DataError):
        read(reading, "text", texts(values))


@settings(max_examples=100, deadline=None)
@given(values=st.lists(st.binary() | st.none()))
def test_blobs(reading: psycopg.Connection[Any], values: list[bytes | None]) -> None:
    assert read(reading, "bytea", blobs(values)) == values


@settings(max_examples=100, deadline=None)
@given(
    whole=st.lists(st.integers(SMALLEST, LARGEST)),
    reals=st.lists(st.floats(allow_nan=False) | st.none()),
    answers=st.lists(st.booleans()),
)
def test_numbers_and_booleans(
    reading: psycopg.Connection[Any], whole: list[int], reals: list[float | None], answers: list[bool]
) -> None:
    assert read(reading, "bigint", integers(whole)) == whole
    assert read(reading, "float8", floats(reals)) == reals
    assert read(reading, "boolean", booleans(answers)) == answers


@pytest.mark.parametrize("autocommit", [True, False])
def test_a_batch_of_large_payloads_takes_several_statements_and_is_kept_as_one(
    pgq: PgQueuer, dsn: str, monkeypatch: pytest.MonkeyPatch, autocommit: bool
) -> None:
    monkeypatch.setattr("pgq_sync.storage.inserts.MOST_BYTES", 1_000)
    payloads = [bytes([number]) * 100 for number in range(50)]
    with psycopg.connect(dsn, autocommit=autocommit) as connection, recorded_statements() as sent:
        ids = pgq.on(connection).enqueue_many(NewJob(entrypoint="work", payload=payload) for payload in payloads)
        jobs = connection.execute("select count(*) from pgq_job").fetchone()
        connection.rollback()
    assert sent.count("enqueue_batch") == 8
    assert (len(ids), jobs) == (50, (50,))
    records = [pgq.jobs.get(job_id) for job_id in ids]
    assert [record and record.payload for record in records] == (payloads if autocommit else [None] * 50)
