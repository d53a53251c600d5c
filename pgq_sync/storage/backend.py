"""Where an application's jobs are: its settings, its connections and its store, each made at the first use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar
from uuid import UUID
from weakref import WeakValueDictionary

from pgq_sync.errors import ConfigError
from pgq_sync.settings import Settings
from pgq_sync.storage.clock import RowClock
from pgq_sync.storage.connections import Connections
from pgq_sync.storage.joined import Transact
from pgq_sync.storage.memory.store import MemoryStore
from pgq_sync.storage.names import Names
from pgq_sync.storage.postgres import PostgresStore
from pgq_sync.storage.store import Store

Kept = TypeVar("Kept")
Connect = Callable[[Settings], Connections]


class Working(Protocol):
    """A worker, as the place where it works knows it."""

    def look(self) -> None:
        """Has it look everywhere for what is due."""

    def stop(self) -> Any:
        """Stops it in good order."""


class Backend:
    """The place of an application's jobs. A PgQueuer has one; tests put another in its place.

    Args:
        connect: makes the source of connections; None: there is no database.
        settings: or what reads them at the first use.
        clock: the time that rows get.

    Attributes:
        transact: makes the handlers' transactions within one of a test's own, where they are a framework's.
    """

    transact: Transact | None = None

    def __init__(self, connect: Connect | None, settings: Settings | Callable[[], Settings], clock: RowClock) -> None:
        self.clock = clock
        self.workers: WeakValueDictionary[UUID, Working] = WeakValueDictionary()  # of this process
        self._connect = connect
        # Filled at first use by setdefault, which needs no lock: none can be held while a process forks.
        self._kept: dict[str, Any] = {}
        self._read_settings = settings if callable(settings) else lambda: settings
        self._made: dict[str, Any] = {}

    @property
    def settings(self) -> Settings:
        made: Settings = self._made.get("settings") or self._made.setdefault("settings", self._read_settings())
        return made

    @property
    def store(self) -> Store:
        made: Store = self._made.get("store") or self._made.setdefault("store", self.make_store())
        return made

    def make_store(self) -> Store:
        """A new store for the place; called once."""
        return PostgresStore(self.connections, self.names, self.clock) if self._connect else MemoryStore(self.clock)

    @property
    def has_database(self) -> bool:
        """Whether there is one."""
        return self._connect is not None

    @property
    def connections(self) -> Connections:
        """Where connections come from.

        Raises:
            ConfigError: there is no database.
        """
        if self._connect is None:
            raise ConfigError("an in-memory PgQueuer has no database")
        made: Connections = self._made.get("connections") or self._made.setdefault("connections", self._connect(self.settings))
        return made

    @property
    def names(self) -> Names:
        """The tables' names."""
        return Names(self.settings.prefix, self.settings.schema)

    def look(self) -> None:
        """Has this process's workers look everywhere at once. From any thread."""
        for worker in self._living():
            worker.look()

    def stop_workers(self) -> None:
        """Stops this process's workers, each in good order."""
        for worker in self._living():
            worker.stop()

    def _living(self) -> list[Working]:
        # The references first, in one step: other threads may make workers meanwhile.
        return [worker for reference in self.workers.valuerefs() if (worker := reference()) is not None]

    def keep(self, name: str, make: Callable[[], Kept]) -> Kept:
        """What `make` gives at the first use of `name` here; closed with the place."""
        # By setdefault, as all that is made here.
        kept: Kept = self._kept.get(name) or self._kept.setdefault(name, make())
        return kept

    def close(self) -> None:
        """Closes what was opened; later use opens again."""
        while self._kept:
            self._kept.popitem()[1].close()
        if store := self._made.get("store"):
            store.close()


def require_kind(argument: str, given: object, kind: type | tuple[type, ...], wanted: str) -> None:
    """Refuses what no connections can be made from, before it is used. It is not shown: it may be a DSN, with a password.

    Raises:
        TypeError: `given` is not of this kind.
    """
    if not isinstance(given, kind):
        found = type(given)
        raise TypeError(f"{argument} must be {wanted}, not {found.__module__}.{found.__qualname__}".replace(" builtins.", " "))
