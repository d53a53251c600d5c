"""Which entrypoint a test means."""

from __future__ import annotations

import difflib

from pgq_sync.app import PgQueuer
from pgq_sync.errors import ConfigError


def name_of(entrypoint: object) -> str:
    """The name of an entrypoint, which may be given by an object that has one as `name`.

    Raises:
        TypeError: it is neither.
    """
    name = entrypoint if isinstance(entrypoint, str) else getattr(entrypoint, "name", None)
    if not isinstance(name, str):
        raise TypeError(f"entrypoint={entrypoint!r} must be a name, or an object that has one as `name`")
    return name


def registered(pgq: PgQueuer, entrypoint: object) -> str:
    """The name of an entrypoint that is registered.

    Raises:
        ConfigError: it is not.
    """
    name, known = name_of(entrypoint), pgq.registry.names()
    if name not in known:
        close = difflib.get_close_matches(name, known)
        hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"known: {', '.join(known) or 'none'}"
        raise ConfigError(f"entrypoint {name!r} is not registered; {hint}")
    return name
