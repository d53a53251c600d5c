"""Schedules where a zone's offset changes, through the store's clock; expected instants are written out by hand, in UTC."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.schedules.support import Timed, utc

BERLIN, NEW_YORK, LORD_HOWE = "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"

CASES = [
    # Berlin, 29 March 2026: at 01:00 UTC it is 02:00, and then 03:00.
    (BERLIN, "30 2 * * *", "2026-03-28 00:00", "2026-03-30 12:00", ["28 01:30", "29 01:00", "30 00:30"]),
    (BERLIN, "*/20 2 * * *", "2026-03-28 12:00", "2026-03-30 02:00", ["29 01:00", "30 00:00", "30 00:20", "30 00:40"]),
    (BERLIN, "0,30 1-3 * * *", "2026-03-28 12:00", "2026-03-29 06:00", ["29 00:00", "29 00:30", "29 01:00", "29 01:30"]),
    (BERLIN, "0 3 * * *", "2026-03-28 12:00", "2026-03-30 12:00", ["29 01:00", "30 01:00"]),
    (BERLIN, "30 * * * *", "2026-03-28 23:00", "2026-03-29 03:00", ["28 23:30", "29 00:30", "29 01:30", "29 02:30"]),
    (BERLIN, "0 */2 * * *", "2026-03-28 20:00", "2026-03-29 06:30", ["28 21:00", "28 23:00", "29 02:00", "29 04:00", "29 06:00"]),
    (BERLIN, "*/20 * * * *", "2026-03-29 00:30", "2026-03-29 01:30", ["29 00:40", "29 01:00", "29 01:20"]),
    # Berlin, 25 October 2026: at 01:00 UTC it is 03:00, and then 02:00 again.
    (BERLIN, "30 2 * * *", "2026-10-24 12:00", "2026-10-26 12:00", ["25 00:30", "26 01:30"]),
    (BERLIN, "*/30 2 * * *", "2026-10-24 12:00", "2026-10-25 12:00", ["25 00:00", "25 00:30"]),
    (BERLIN, "0 3 * * *", "2026-10-24 12:00", "2026-10-25 12:00", ["25 02:00"]),
    (BERLIN, "30 * * * *", "2026-10-24 23:00", "2026-10-25 03:00", ["24 23:30", "25 00:30", "25 01:30", "25 02:30"]),
    (BERLIN, "0 */2 * * *", "2026-10-24 21:00", "2026-10-25 04:00", ["24 22:00", "25 00:00", "25 01:00", "25 03:00"]),
    (BERLIN, "*/20 * * * *", "2026-10-25 00:30", "2026-10-25 01:50", ["25 00:40", "25 01:00", "25 01:20", "25 01:40"]),
    # New York, 8 March 2026: at 07:00 UTC it is 02:00, and then 03:00.
    (NEW_YORK, "30 2 * * *", "2026-03-07 00:00", "2026-03-09 12:00", ["07 07:30", "08 07:00", "09 06:30"]),
    (NEW_YORK, "0 * * * *", "2026-03-08 05:30", "2026-03-08 08:30", ["08 06:00", "08 07:00", "08 08:00"]),
    (NEW_YORK, "0 */2 * * *", "2026-03-08 04:00", "2026-03-08 11:00", ["08 05:00", "08 08:00", "08 10:00"]),
    # New York, 1 November 2026: at 06:00 UTC it is 02:00, and then 01:00 again.
    (NEW_YORK, "30 1 * * *", "2026-10-31 12:00", "2026-11-02 12:00", ["01 05:30", "02 06:30"]),
    (NEW_YORK, "30 * * * *", "2026-11-01 04:00", "2026-11-01 08:00", ["01 04:30", "01 05:30", "01 06:30", "01 07:30"]),
    (NEW_YORK, "0 */2 * * *", "2026-11-01 03:00", "2026-11-01 10:00", ["01 04:00", "01 07:00", "01 09:00"]),
    # Lord Howe, 4 October 2026: at 15:30 UTC it is 02:00, and then 02:30.
    (LORD_HOWE, "15 2 * * *", "2026-10-02 00:00", "2026-10-05 00:00", ["02 15:45", "03 15:30", "04 15:15"]),
    (LORD_HOWE, "15 * * * *", "2026-10-03 14:00", "2026-10-03 17:30", ["03 14:45", "03 16:15", "03 17:15"]),
    (LORD_HOWE, "0 */2 * * *", "2026-10-03 13:00", "2026-10-03 18:00", ["03 13:30", "03 17:00"]),
    (LORD_HOWE, "*/15 * * * *", "2026-10-03 15:00", "2026-10-03 16:00", ["03 15:15", "03 15:30", "03 15:45", "03 16:00"]),
    # Lord Howe, 5 April 2026: at 15:00 UTC it is 02:00, and then 01:30 again.
    (LORD_HOWE, "45 1 * * *", "2026-04-03 00:00", "2026-04-06 00:00", ["03 14:45", "04 14:45", "05 15:15"]),
    (LORD_HOWE, "45 * * * *", "2026-04-04 13:00", "2026-04-04 17:00", ["04 13:45", "04 14:45", "04 15:15", "04 16:15"]),
    (LORD_HOWE, "0 */2 * * *", "2026-04-04 12:00", "2026-04-04 18:00", ["04 13:00", "04 15:30", "04 17:30"]),
    # Midnight is skipped: in Havana on 8 March 2026 at 05:00 UTC, in Beirut on 29 March at 22:00 UTC of the day before.
    ("America/Havana", "0 0 * * *", "2026-03-06 12:00", "2026-03-09 12:00", ["07 05:00", "08 05:00", "09 04:00"]),
    ("Asia/Beirut", "0 0 * * *", "2026-03-27 12:00", "2026-03-30 12:00", ["27 22:00", "28 22:00", "29 21:00"]),
    # Apia had no 30 December 2011: at 10:00 UTC it changed from ten hours behind UTC to fourteen ahead.
    ("Pacific/Apia", "0 12 * * *", "2011-12-29 00:00", "2011-12-31 12:00", ["29 22:00", "30 10:00", "30 22:00"]),
    ("Pacific/Apia", "0 */12 * * *", "2011-12-29 11:00", "2011-12-30 23:00", ["29 22:00", "30 10:00", "30 22:00"]),
    # Where the next tick is many changes away.
    (BERLIN, "0 * 29 2 *", "2026-01-15 00:00", "2028-02-29 00:30", ["28 23:00", "29 00:00"]),
    # Where summer comes and goes between two ticks: on 1 November 2026 at 05:00 UTC it is 01:00, and then 00:00 again.
    ("America/Havana", "30 * 1 11 *", "2026-01-15 00:00", "2026-11-01 06:40", ["01 04:30", "01 05:30", "01 06:30"]),
]


@pytest.mark.parametrize(
    ("zone", "expression", "start", "end", "expected"), CASES, ids=[f"{case[0]} {case[1]} {case[2][:7]}" for case in CASES]
)
def test_changes_of_the_offset(timed: Timed, zone: str, expression: str, start: str, end: str, expected: list[str]) -> None:
    timed.now = utc(start)
    timed.deploy((expression, {"timezone": zone, "on_missed": "all"}))
    # Half an hour at a time, and at the end what is left.
    for _ in range(200):
        timed.tick_at(min(timed.now + timedelta(minutes=30), utc(end)))
    timed.tick_at(utc(end))

    assert [f"{due:%d %H:%M}" for due in timed.dues()] == expected
    assert all(utc(start) < due <= utc(end) for due in timed.dues())


def test_what_was_missed_over_a_change_is_the_latest_tick(timed: Timed) -> None:
    timed.now = utc("2026-10-24 12:00")
    timed.deploy(("30 * * * *", {"timezone": BERLIN}))
    timed.tick_at(utc("2026-10-25 01:59"))
    assert timed.dues() == [utc("2026-10-25 01:30")]
