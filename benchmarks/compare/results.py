"""What was measured, as data that can be written down: tables and plots are made from it, now or later.

Imports nothing but the standard library, since plots are drawn in another environment.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

OWN = "pgq-sync-defaults"


@dataclass(frozen=True)
class Outcome:
    """What one round of a scenario has found out about one contestant."""

    figures: Mapping[str, float]
    notes: tuple[str, ...] = ()  # what a reader has to know about them


@dataclass
class Entry:
    """One contestant: its figures by scenario, one value per round, and why some are missing."""

    label: str
    library: str
    configuration: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)  # see drivers/base.py
    figures: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)
    dashes: dict[str, str] = field(default_factory=dict)

    def forget(self, scenario: str) -> None:
        """Makes room for what is measured again."""
        for kept in (self.figures, self.notes, self.dashes):
            kept.pop(scenario, None)

    def add(self, scenario: str, outcome: Outcome) -> None:
        figures, notes = self.figures.setdefault(scenario, {}), self.notes.setdefault(scenario, [])
        for name, value in outcome.figures.items():
            figures.setdefault(name, []).append(value)
        notes += [note for note in outcome.notes if note not in notes]

    def values(self, scenario: str, figure: str) -> list[float]:
        """Of all rounds; none where there is a dash."""
        return self.figures.get(scenario, {}).get(figure, [])

    def value(self, scenario: str, figure: str) -> float | None:
        """The median over the rounds."""
        values = self.values(scenario, figure)
        return median(values) if values else None

    def ratio(self, scenario: str, figure: str, beside: tuple[str, str] = ("drain", "jobs/s")) -> float | None:
        """Of one figure to another of the same round, the plain drain's unless said otherwise; the median over the rounds."""
        pairs = [*zip(self.values(scenario, figure), self.values(*beside), strict=False)]
        return median(one / other for one, other in pairs) if pairs else None


@dataclass
class Ran:
    """A run, and what of the figures is of it."""

    machine: dict[str, str]
    rounds: int
    measured: dict[str, list[str]] = field(default_factory=dict)  # the contestants' names by scenario


@dataclass
class Results:
    """Of one run, or of several of which a later one measured something again."""

    runs: list[Ran] = field(default_factory=list)
    entries: dict[str, Entry] = field(default_factory=dict)  # by the contestant's name, in the order of all tables and plots

    def begin(self, scenario: str, contestant: str) -> None:
        """The latest run measures this: an earlier one's word counts no more."""
        self.entries[contestant].forget(scenario)
        for ran in self.runs:
            if contestant in ran.measured.get(scenario, ()):
                ran.measured[scenario].remove(contestant)
        self.runs[-1].measured.setdefault(scenario, []).append(contestant)

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Results:
        found = json.loads(path.read_text())
        return cls([Ran(**ran) for ran in found["runs"]], {name: Entry(**entry) for name, entry in found["entries"].items()})

    def fastest(self, library: str) -> str | None:
        """The name of a library's contestant that drains fastest; None where no drain was measured."""
        drains = {name: entry.value("drain", "jobs/s") for name, entry in self.entries.items() if entry.library == library}
        rates = {name: rate for name, rate in drains.items() if rate is not None}
        return max(rates, key=lambda name: rates[name], default=None)
