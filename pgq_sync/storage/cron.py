"""Cron expressions and their ticks. croniter reads the fields, and is asked about local times only; which instants those
are, also where a zone's offset changes, is decided here.

Here and not among what users declare, since both stores and the book of schedules need it.
"""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import lru_cache

from croniter import CroniterBadDateError, croniter

_ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_FIELDS = (
    ("minute", "0 to 59"),
    ("hour", "0 to 23"),
    ("day", "1 to 31, L for the last"),
    ("month", "1 to 12, jan to dec"),
    ("weekday", "0 to 7 (both are Sunday), sun to sat"),
    ("second", "0 to 59"),
)
_FORMS = (
    "Five fields (minute hour day month weekday) are accepted, six with seconds last, "
    "@hourly, @daily, @midnight, @weekly, @monthly, @yearly and @annually"
)
# croniter's own inventions: a random number, and one made from a hash.
_ARBITRARY = re.compile(r"(?<![a-z])[rh](?![a-z])")
_LONGEST = 500  # characters: the expression is part of the table's key
_SECOND = timedelta(seconds=1)
_DAY = timedelta(days=1)  # no zone changes its offset twice within one
_ANY_TIME = datetime(2000, 1, 1)  # noqa: DTZ001  a local time


@dataclass(frozen=True, slots=True)
class Cron:
    """The times that an expression names in a zone, as instants in UTC. Made by `read`."""

    fields: str  # as croniter takes them
    zone: zoneinfo.ZoneInfo
    follows_elapsed_time: bool  # its hours are wildcards

    def ticks(self, after: datetime) -> Iterator[datetime]:
        """Its times after an instant, without end, each later than the one before."""
        after = after.astimezone(timezone.utc).replace(microsecond=0)
        return self._elapsed(after) if self.follows_elapsed_time else self._named(after)

    def after(self, moment: datetime) -> datetime:
        """Its first time after an instant."""
        return next(self.ticks(moment))

    def last(self, after: datetime, until: datetime) -> datetime | None:
        """The last of its times that is later than `after` and not later than `until`; None if there is none.

        Halves the stretch in which it can be again and again, so that years of seconds take no longer than a day.
        """
        found = self.after(after)
        if found > until:
            return None
        end = until  # behind which there is none
        while end - found >= _SECOND:
            middle = found + (end - found) / 2
            if (later := self.after(middle)) <= until:
                found = later
            else:
                end = middle
        return found

    def _elapsed(self, moment: datetime) -> Iterator[datetime]:
        """Follows the instants: each is named or not by the local time that it has."""
        start = _naive(moment) + self._offset(moment)
        while True:
            offset = self._offset(moment)
            for local in self._names(start):
                tick = _aware(local - offset)
                if change := self._change(moment, tick):
                    # The instant of the change itself counts, by its new local time.
                    moment, start = change, _naive(change) + self._offset(change) - _SECOND
                    break
                yield tick
                moment = tick

    def _named(self, moment: datetime) -> Iterator[datetime]:
        """Follows the local times: each is run once, wherever its instant lies."""
        for local in self._names(_naive(moment) + self._offset(moment)):
            tick = self._instant(local)
            if tick > moment:
                yield tick
                moment = tick

    def _names(self, start: datetime) -> Iterator[datetime]:
        """The local times that the fields name after a local time."""
        walk = croniter(self.fields, start)
        while True:
            yield walk.get_next(datetime)

    def _instant(self, local: datetime) -> datetime:
        """When it is this local time: of two instants the first, of none the first one after the gap."""
        aware = local.replace(tzinfo=self.zone)
        instant = aware.astimezone(timezone.utc)
        if _naive(instant) + self._offset(instant) == local:
            return instant
        # In a gap: Python reads it by the offset from before, and with fold=1 by the one that comes (PEP 495).
        return self._first_with(self._offset(instant), aware.replace(fold=1).astimezone(timezone.utc), instant)

    def _change(self, after: datetime, until: datetime) -> datetime | None:
        """The first instant after `after` at which the offset changes; None if it does not until `until`."""
        offset = self._offset(after)
        while after < until:
            step = min(after + _DAY, until)
            if (changed := self._offset(step)) != offset:
                return self._first_with(changed, after, step)
            after = step
        return None

    def _first_with(self, offset: timedelta, before: datetime, instant: datetime) -> datetime:
        """From when on the zone has the offset that it has at `instant`, and not at `before`."""
        while instant - before > _SECOND:
            middle = before + timedelta(seconds=(instant - before) // _SECOND // 2)
            before, instant = (before, middle) if self._offset(middle) == offset else (middle, instant)
        return instant

    def _offset(self, instant: datetime) -> timedelta:
        return instant.astimezone(self.zone).utcoffset() or timedelta()


def read(expression: str, zone: str) -> Cron:
    """The ticks of an expression that `normal` returned.

    Args:
        expression: a cron expression.
        zone: the IANA name of the time zone in which it is meant.

    Raises:
        TypeError, ValueError: the expression or the zone cannot be used; the message names it and what is accepted.
    """
    return _read(normal(expression), check_zone(zone))


def normal(expression: str) -> str:
    """`expression` with single spaces and in small letters, so that two spellings are not two schedules.

    Raises:
        TypeError, ValueError: it is no cron expression; the message names the field and the place.
    """
    if not isinstance(expression, str):
        raise TypeError(f"expression={expression!r} must be a str, not {type(expression).__name__}")
    if len(expression) > _LONGEST:
        raise ValueError(f"expression={expression[:60]!r}... has {len(expression):,} characters: at most {_LONGEST} are accepted")
    written = spelled(expression)
    if problem := _problem(written, expression):
        raise ValueError(f"expression={expression!r} is no cron expression: {problem}. {_FORMS}")
    return written


def spelled(expression: str) -> str:
    """`expression` as `normal` writes it, whether or not it is one."""
    return " ".join(expression.split()).lower()


def check_zone(name: str) -> str:
    """`name`, which must be that of a time zone.

    Raises:
        TypeError, ValueError: it is not.
    """
    if not isinstance(name, str):
        raise TypeError(f"timezone={name!r} must be a str, not {type(name).__name__}")
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"timezone={name!r} is unknown: IANA names such as Europe/Berlin or UTC are accepted, as far as this machine "
            "knows them (the package tzdata has them all)"
        ) from None
    return name


@lru_cache(maxsize=1000)
def _read(expression: str, zone: str) -> Cron:
    fields = _ALIASES.get(expression, expression)
    return Cron(fields, zoneinfo.ZoneInfo(zone), fields.split()[1].startswith("*"))


@lru_cache(maxsize=1000)
def _problem(written: str, expression: str) -> str | None:
    if written.startswith("@"):
        return None if written in _ALIASES else f"the name {written!r} (at character 1) is unknown"
    fields = written.split()
    if len(fields) not in (5, 6):
        return f"it has {len(fields)} field" + "s" * (len(fields) != 1)
    if bad := _bad_part(fields, expression):
        return bad
    try:
        croniter(written, _ANY_TIME).get_next(datetime)
    except CroniterBadDateError:
        return "the time that it names never comes"
    except Exception as error:  # what croniter raises differs from release to release
        return f"its fields do not go together ({error})"
    return None


def _bad_part(fields: Sequence[str], expression: str) -> str | None:
    """Which part of which field is not understood, and where it stands."""
    starts = [found.start() for found in re.finditer(r"\S+", expression)]
    for number, (field, start) in enumerate(zip(fields, starts, strict=True)):
        name, accepted = _FIELDS[number]
        for part in field.split(","):
            if not _understood(part, number, len(fields)):
                return (
                    f"field {number + 1} ({name}), at character {start + 1}: {part!r} is not understood, {accepted} are accepted"
                )
            start += len(part) + 1
    return None


def _understood(part: str, number: int, count: int) -> bool:
    if _ARBITRARY.search(part):
        return False
    alone = ["*"] * count
    alone[number] = part
    try:
        croniter.expand(" ".join(alone))
    except Exception:  # what croniter raises differs from release to release
        return False
    return True


def _naive(instant: datetime) -> datetime:
    return instant.replace(tzinfo=None)


def _aware(utc: datetime) -> datetime:
    return utc.replace(tzinfo=timezone.utc)
