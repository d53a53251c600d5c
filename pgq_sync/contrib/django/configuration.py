"""What stands in the Django setting PGQ_SYNC: the fields of `Settings`, and what only Django has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings as django_settings

from pgq_sync.errors import ConfigError
from pgq_sync.settings import Settings

LABEL = "PGQ_SYNC"
_ELSEWHERE = {"dsn": "the database is that of PGQ_SYNC['DATABASE'], an alias in DATABASES"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """The setting PGQ_SYNC.

    Attributes:
        database: DATABASE, the alias of the connection whose database has the queue.
        modules: MODULES, the names of the modules in which each app may declare tasks.
        settings: the others.
    """

    database: str = "default"
    modules: tuple[str, ...] = ("tasks",)
    settings: Settings


def configuration() -> Configuration:
    """What PGQ_SYNC says now.

    Raises:
        ConfigError: a name in it is unknown, or a value cannot be used.
    """
    given = getattr(django_settings, LABEL, None) or {}
    if not isinstance(given, Mapping):
        raise ConfigError(f"{LABEL}={given!r}: a dict is accepted, as in {LABEL} = {{'CONCURRENCY': 20}}")
    rest = {key: value for key, value in given.items() if key not in ("DATABASE", "MODULES")}
    for key in rest:
        if (why := _ELSEWHERE.get(str(key).lower())) is not None:
            raise ConfigError(f"{LABEL}[{key!r}]: {why}")
    return Configuration(
        database=_alias(given.get("DATABASE", Configuration.__dataclass_fields__["database"].default)),
        modules=_modules(given.get("MODULES", Configuration.__dataclass_fields__["modules"].default)),
        settings=Settings.from_mapping(rest, LABEL),
    )


def _alias(given: Any) -> str:
    known = list(getattr(django_settings, "DATABASES", {}))
    if not isinstance(given, str) or (known and given not in known):
        raise ConfigError(
            f"{LABEL}['DATABASE']={given!r}: an alias in DATABASES is accepted: {', '.join(known) or 'there is none'}"
        )
    return given


def _modules(given: Any) -> tuple[str, ...]:
    if isinstance(given, str) or not all(isinstance(name, str) and name.isidentifier() for name in given):
        raise ConfigError(f"{LABEL}['MODULES']={given!r}: a list of module names is accepted, as in ['tasks', 'jobs']")
    return tuple(given)
