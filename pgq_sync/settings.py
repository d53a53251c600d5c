"""Every setting and its default, written once.

The command line's options, the environment's variables and the frameworks' settings all derive from these fields.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

from pgq_sync.errors import ConfigError

ENV_PREFIX = "PGQ_"
TEST_DSN = "PGQ_TEST_DSN"  # where pytest's fixtures make databases: no setting of an application
Value = TypeVar("Value")


def _setting(default: Value, help_text: str, *, secret: bool = False) -> Value:
    """A field with its meaning, which the command line shows; a secret one stays out of `repr`."""
    value: Value = field(default=default, repr=not secret, metadata={"help": help_text})
    return value


def described(name: str) -> tuple[str, Any]:
    """What the setting `name` means, in a sentence, and its default."""
    found = next(setting for setting in dataclasses.fields(Settings) if setting.name == name)
    return found.metadata["help"], found.default


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How pgq-sync behaves. Durations are timedeltas, in text also seconds ("2.5") or "500ms", "5s", "10m", "2h", "7d".

    Raises:
        ConfigError: a value is out of range or of the wrong type; the message names it and what is accepted.
    """

    dsn: str | None = _setting(None, "The database, as a URI or libpq's key=value pairs.", secret=True)
    listen_dsn: str | None = _setting(None, "Where the listener connects, if not to `dsn`: past a PgBouncer, say.", secret=True)
    prefix: str = _setting("pgq_", "The beginning of every table's name.")
    schema: str | None = _setting(None, "The schema of the tables; None: the first one on the search_path.")
    max_payload: int = _setting(1024 * 1024, "The largest payload, in bytes.")
    notify: bool = _setting(True, "Whether enqueuing wakes workers; without it they find jobs by polling.")
    pool_size: int = _setting(10, "The most connections that the own pool opens; workers open up to 4 more.")
    concurrency: int = _setting(10, "How many jobs a worker runs at once.")
    batch_size: int | None = _setting(None, "The most jobs to claim at once; None adapts it to how long jobs take.")
    poll_interval: timedelta = _setting(
        timedelta(seconds=5),
        "How often an idle worker looks without having been notified; over a minute, deferred jobs may start late.",
    )
    shutdown_timeout: timedelta = _setting(timedelta(seconds=30), "How long a stopping worker waits for running jobs.")
    max_stuck: int = _setting(5, "How many stuck threads a worker replaces before it gives up.")
    max_rescues: int = _setting(3, "How often a job is run again after its worker died.")
    beat_interval: timedelta = _setting(timedelta(seconds=5), "How often a worker gives a sign of life.")
    liveness_limit: timedelta = _setting(timedelta(seconds=15), "How old the last sign of life of a living worker may be.")
    retention: timedelta = _setting(timedelta(days=7), "How long finished jobs are remembered.")
    misfire_grace: timedelta = _setting(timedelta(seconds=60), "How late a schedule's tick may be before it counts as missed.")

    def __post_init__(self) -> None:
        for setting in dataclasses.fields(self):
            _check(setting.name, getattr(self, setting.name), setting.name)
        if self.liveness_limit / 2 < self.beat_interval:
            limit, beat = self.liveness_limit.total_seconds(), self.beat_interval.total_seconds()
            raise ConfigError(
                f"liveness_limit is {limit:g} s and beat_interval {beat:g} s: a worker would be taken for dead between two "
                "signs of life; a limit of at least twice the interval is accepted"
            )

    def replace(self, **changes: Any) -> Settings:
        """These settings with some changed.

        Raises:
            ConfigError: there is no such setting, or a value cannot be used.
        """
        for name in changes:
            _kind(name, name)
        return dataclasses.replace(self, **changes)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
        """The settings in the environment's `PGQ_*` variables, with `overrides` on top.

        Raises:
            ConfigError: a `PGQ_*` variable is unknown or malformed; the message names variable, value and what is accepted.
        """
        environ = os.environ if environ is None else environ
        ours = [key for key in environ if key.startswith(ENV_PREFIX) and key != TEST_DSN]
        given = {key[len(ENV_PREFIX) :].lower(): environ[key] for key in ours}
        parsed = {name: parse(name, text, ENV_PREFIX + name.upper()) for name, text in given.items()}
        return cls(**(parsed | overrides))

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], label: str) -> Settings:
        """The settings in a mapping, as a framework's configuration holds them; `label` names it in errors.

        Raises:
            ConfigError: a name is unknown or a value malformed.
        """
        parsed: dict[str, Any] = {}
        for key, value in values.items():
            name, entry = key.lower(), f"{label}[{key!r}]"
            if isinstance(value, str) and _base(name, entry) is not str:
                parsed[name] = parse(name, value, entry)
            else:
                _check(name, value, entry)
                parsed[name] = value
        return cls(**parsed)


def check_names(prefix: str, schema: str | None) -> None:
    """Raises ConfigError unless tables can be named like this."""
    _check("prefix", prefix, "prefix")
    _check("schema", schema, "schema")


def parse(name: str, text: str, label: str) -> Any:
    """The value of setting `name` written as text; `label` is how errors name it.

    Raises:
        ConfigError: there is no such setting, or the text does not fit it.
    """
    base = _base(name, label)
    if text == "" and _is_optional(name, label):
        return None
    accepted, convert = _FORMS[base]
    try:
        value = convert(text)
    except ValueError:
        raise ConfigError(f"{label}={text!r}: {accepted} is accepted") from None
    _check(name, value, label, text)
    return value


def _kind(name: str, label: str) -> Any:
    kinds = typing.get_type_hints(Settings)
    if name not in kinds:
        close = difflib.get_close_matches(name, kinds, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "known settings: " + ", ".join(sorted(kinds))
        raise ConfigError(f"{label}: there is no setting {name!r}; {hint}")
    return kinds[name]


def _base(name: str, label: str) -> Any:
    kind = _kind(name, label)
    return typing.get_args(kind)[0] if _is_optional(name, label) else kind


def _is_optional(name: str, label: str) -> bool:
    return isinstance(_kind(name, label), types.UnionType)


def _check(name: str, value: Any, label: str, text: str | None = None) -> None:
    """Raises ConfigError unless `value` may stand for setting `name`, which errors call `label` and show as `text`."""
    base = _base(name, label)
    if value is None and _is_optional(name, label):
        return
    shown = f"a {type(value).__name__}" if name in _SECRET else repr(value if text is None else text)
    if not isinstance(value, base) or (base is int and isinstance(value, bool)):
        form = "a timedelta" if base is timedelta else _FORMS[base][0]
        raise ConfigError(f"{label}={shown}: {form} is accepted")
    if base is int and value < _LEAST.get(name, 1):
        raise ConfigError(f"{label}={shown}: a whole number from {_LEAST.get(name, 1)} up is accepted")
    if base is timedelta and (value < timedelta() or (value == timedelta() and name not in _LEAST)):
        raise ConfigError(f"{label}={shown}: a positive duration is accepted")
    if name == "misfire_grace" and value < _PROMPTLY:
        raise ConfigError(f"{label}={shown}: a duration from 1 s up, in which ticks are fired anyway, is accepted")
    if name in _NAMES and not _NAMES[name][1](value):
        raise ConfigError(f"{label}={shown}: {_NAMES[name][0]} is accepted")


def parse_duration(text: str) -> timedelta:
    """A duration written as seconds ("2.5") or with a unit ("500ms", "5s", "10m", "2h", "7d").

    Raises:
        ValueError: the text is no such duration.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?", text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a duration: write seconds, or a number with ms, s, m, h or d")
    try:
        return timedelta(seconds=float(match[1]) * _SECONDS[match[2] or "s"])
    except OverflowError:
        raise ValueError(f"{text!r} is longer than {timedelta.max.days:,} days") from None


def _parse_bool(text: str) -> bool:
    try:
        return _BOOLEANS[text.strip().lower()]
    except KeyError:
        raise ValueError(text) from None


def _can_be_prefix(text: str) -> bool:
    return re.fullmatch(r"[^\W\d]\w*", text) is not None and len(text.encode()) <= _MAX_PREFIX_BYTES


def _can_be_schema(text: str) -> bool:
    return re.fullmatch(r"[\w$ -]+", text) is not None


_MAX_PREFIX_BYTES = 32  # PostgreSQL cuts names off at 63 bytes; the longest suffix of ours has 23
_NAMES: dict[str, tuple[str, Callable[[str], bool]]] = {
    "prefix": (
        f"a name of letters, digits and underscores, at most {_MAX_PREFIX_BYTES} bytes long and not beginning with a digit,",
        _can_be_prefix,
    ),
    "schema": ("a name of letters, digits, _, $, - and spaces", _can_be_schema),
}
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_BOOLEANS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
_SECRET = ("dsn", "listen_dsn")
_LEAST = {"max_stuck": 0, "max_rescues": 0, "shutdown_timeout": 0}
_PROMPTLY = timedelta(seconds=1)  # within which a schedule fires: with less grace every tick would count as missed
_FORMS: dict[type, tuple[str, Callable[[str], Any]]] = {
    str: ("text", str),
    int: ("a whole number", int),
    bool: ("true or false (also 1, 0, yes, no, on, off)", _parse_bool),
    timedelta: ("a duration such as 30, 2.5, 500ms, 5s, 10m, 2h or 7d", parse_duration),
}
