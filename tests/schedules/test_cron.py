"""Ticks agree with brute force, minute by minute over changes of the offset."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import cache
from itertools import takewhile
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgq_sync.storage.cron import read
from tests.schedules.support import MINUTE, utc

CHANGES = [
    ("Europe/Berlin", "2026-03-29 01:00"),
    ("Europe/Berlin", "2026-10-25 01:00"),
    ("America/New_York", "2026-03-08 07:00"),
    ("America/New_York", "2026-11-01 06:00"),
    ("Australia/Lord_Howe", "2026-10-03 15:30"),
    ("Australia/Lord_Howe", "2026-04-04 15:00"),
    ("America/Havana", "2026-03-08 05:00"),
    ("America/Havana", "2026-11-01 05:00"),
    ("Asia/Beirut", "2026-03-28 22:00"),
    ("Antarctica/Troll", "2026-03-29 01:00"),
    ("Antarctica/Troll", "2026-10-25 01:00"),
    ("Pacific/Apia", "2011-12-30 10:00"),
    ("Africa/Casablanca", "2026-02-15 02:00"),
    ("Asia/Pyongyang", "2015-08-14 15:00"),
]
AROUND = timedelta(hours=36)
EDGE = timedelta(hours=30)  # for local times whose instants lie within AROUND


@cache
def minutes(zone: str, change: str) -> list[tuple[datetime, datetime]]:
    """Every minute around a change, with its local time."""
    start = utc(change) - AROUND - EDGE
    instants = [start + number * MINUTE for number in range(2 * (AROUND + EDGE) // MINUTE)]
    return [(each, each.astimezone(ZoneInfo(zone)).replace(tzinfo=None)) for each in instants]


def elapsed(table: list[tuple[datetime, datetime]], minute: set[int], hour: set[int]) -> Iterator[datetime]:
    """The instants whose local time is named."""
    return (instant for instant, local in table if local.minute in minute and local.hour in hour)


def fixed(table: list[tuple[datetime, datetime]], minute: set[int], hour: set[int]) -> Iterator[datetime]:
    """For each local time that is named its first instant, or the first one after the gap in which it lies."""
    first: dict[datetime, datetime] = {}
    for instant, local in table:
        first.setdefault(local, instant)
    local, end = table[0][1], table[-1][1]
    while local <= end:
        if local.minute in minute and local.hour in hour:
            later = local
            while later not in first:
                later += MINUTE
            yield first[later]
        local += MINUTE


@st.composite
def values(draw: st.DrawFn, size: int) -> tuple[str, set[int]]:
    """A list of single values and ranges."""
    chosen: set[int] = set()
    parts = []
    for first, last in draw(st.lists(st.tuples(st.integers(0, size - 1), st.integers(0, size - 1)), min_size=1, max_size=3)):
        low, high = min(first, last), max(first, last)
        chosen.update(range(low, high + 1))
        parts.append(str(low) if low == high else f"{low}-{high}")
    return ",".join(parts), chosen


def steps(size: int) -> st.SearchStrategy[tuple[str, set[int]]]:
    """A wildcard, with or without a step."""
    return st.integers(1, size - 1).map(lambda step: ("*" if step == 1 else f"*/{step}", set(range(0, size, step))))


MINUTES = st.one_of(values(60), steps(60), st.sampled_from([("0", {0}), ("30", {30}), ("15", {15})]))
SHIFT = st.integers(-36 * 60, 20 * 60).map(lambda number: number * MINUTE)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(CHANGES), MINUTES, st.one_of(values(24), steps(24)), SHIFT)
def test_ticks_agree_with_brute_force(
    change: tuple[str, str], minute: tuple[str, set[int]], hour: tuple[str, set[int]], shift: timedelta
) -> None:
    zone, at = change
    start, end = utc(at) + shift, utc(at) + AROUND
    expected = (elapsed if hour[0].startswith("*") else fixed)(minutes(zone, at), minute[1], hour[1])
    times = read(f"{minute[0]} {hour[0]} * * *", zone)

    found = list(takewhile(lambda tick: tick <= end, times.ticks(start)))
    assert found == sorted({tick for tick in expected if start < tick <= end})
    assert times.last(start, end) == (found[-1] if found else None)


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from(["* * * * * *", "*/7 3 * * * 1-50", "30 2 * * *", "0 */3 1 * mon", "@monthly", "0 12 L * *", "0 9 * * 5#2"]),
    st.sampled_from([zone for zone, _ in CHANGES]),
    st.integers(0, 60 * 365 * 86_400).map(lambda seconds: utc("2000-01-01 00:00") + timedelta(seconds=seconds + 0.5)),
)
def test_ticks_increase_and_each_is_the_next_of_the_one_before(expression: str, zone: str, start: datetime) -> None:
    times = read(expression, zone)
    ticks, before = times.ticks(start), start
    for _ in range(20):
        tick = next(ticks)
        assert tick > before
        assert tick.microsecond == 0
        assert times.after(before) == tick
        before = tick


def test_the_last_of_years_of_seconds_is_found_at_once() -> None:
    began = time.perf_counter()
    last = read("* * * * * *", "Europe/Berlin").last(utc("2000-01-01 00:00"), utc("2026-10-25 01:30"))
    assert last == utc("2026-10-25 01:30")
    assert read("* 3 * * * *", "UTC").last(utc("2000-01-01 00:00"), utc("2026-10-25 01:30")) == utc("2026-10-24 03:59") + 59 * (
        MINUTE / 60
    )
    assert time.perf_counter() - began < 1


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the zone of the process cannot be set")
def test_the_machines_own_zone_has_no_say() -> None:
    program = """
from datetime import datetime, timezone
from pgq_sync.storage.cron import read
print(read("30 2 * * *", "Europe/Berlin").after(datetime(2026, 3, 28, 12, tzinfo=timezone.utc)))
"""
    environment = os.environ | {"TZ": "America/New_York"}
    printed = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True).stdout
    assert printed == "2026-03-29 01:00:00+00:00\n"
