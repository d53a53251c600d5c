"""The order in which ready lanes are served."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterator, Set
from itertools import chain

Key = tuple[str, str, int]  # a lane: queue, entrypoint, priority


class Rotation:
    """Lanes by priority, larger first; those of one priority take turns."""

    def __init__(self) -> None:
        self._groups: dict[int, OrderedDict[Key, None]] = {}
        self._priorities: list[int] = []  # of the groups, negated: in the order in which they come

    def keep(self, keys: Set[Key]) -> None:
        """Takes out all others; whose turn it is stays so."""
        for key in [key for key in self.keys() if key not in keys]:
            self.remove(key)

    def add(self, key: Key) -> None:
        """Puts a lane behind its equals, unless it is there."""
        if (group := self._groups.get(key[2])) is None:
            self._groups[key[2]] = group = OrderedDict()
            insort(self._priorities, -key[2])
        group[key] = None

    def remove(self, key: Key) -> None:
        """Takes a lane out, if it is there."""
        group = self._groups.get(key[2], _NONE)
        if key not in group:
            return
        del group[key]
        if not group:
            del self._groups[key[2]]
            del self._priorities[bisect_left(self._priorities, -key[2])]

    def turn(self, key: Key) -> None:
        """Puts a lane behind its equals."""
        if key in (group := self._groups.get(key[2], _NONE)):
            group.move_to_end(key)

    def top(self) -> int | None:
        """The largest priority."""
        return -self._priorities[0] if self._priorities else None

    def keys(self) -> Iterator[Key]:
        """All lanes, in their order."""
        return chain.from_iterable(self._groups[-negated] for negated in self._priorities)


_NONE: OrderedDict[Key, None] = OrderedDict()
