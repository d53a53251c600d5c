"""What a scenario gets: one contestant, the server, and the sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.compare.contestants import Contestant
from benchmarks.compare.results import OWN, Outcome
from benchmarks.compare.sizes import Sizes
from benchmarks.compare.stand import Broken, Stand, stand

_DASH = "–"  # noqa: RUF001


class Refused(Exception):
    """The scenario cannot be run with this contestant; says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """One contestant's."""

    contestant: Contestant
    python: Path
    server: str
    described: Mapping[str, Any]
    sizes: Sizes
    redis: str | None = None

    @property
    def is_own(self) -> bool:
        """Whether it is pgq-sync, which is asked for more."""
        return self.contestant.name == OWN

    def stand(self) -> AbstractContextManager[Stand]:
        """A fresh one."""
        return stand(self.contestant, self.python, self.server, self.described, redis=self.redis)

    def parts(self, scenario: str, measures: Mapping[str, Callable[[], float]]) -> Outcome:
        """Jobs per second of each part; what is refused, or breaks, is a dash of its own and spoils no other.

        Raises:
            Broken: there is not one figure.
        """
        figures: dict[str, float] = {}
        notes: list[str] = []
        for part, measured in measures.items():
            if reason := self.described["refuses"].get(f"{scenario}: {part}"):
                notes.append(f"{part}: {_DASH} {reason}")
                continue
            try:
                figures[f"{part} jobs/s"] = measured()
            except Broken as broken:
                notes.append(f"{part}: {_DASH} {broken}")
        if not figures:
            raise Broken("; ".join(notes))
        return Outcome(figures, tuple(notes))

    def on_postgres(self) -> None:
        """
        Raises:
            Refused: its jobs lie elsewhere.
        """
        if self.contestant.redis:
            raise Refused("its jobs lie in Redis")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """
    Args:
        measure: runs one round of it.
        seconds: that a slow contestant takes, roughly.
        rounds: at most.
        fastest: whether of each library only the configuration that drains fastest runs it, since it takes long.
    """

    measure: Callable[[Bench], Outcome]
    seconds: float
    rounds: int = 100
    fastest: bool = False
