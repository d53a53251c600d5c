"""A run: all scenarios with all contestants, which take turns within each round; nothing that breaks ends it."""

from __future__ import annotations

import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.compare import environments, redis
from benchmarks.compare.bench import Bench, Refused, Scenario
from benchmarks.compare.contestants import Contestant
from benchmarks.compare.results import Entry, Outcome, Results
from benchmarks.compare.sizes import Sizes
from benchmarks.compare.stand import Broken, describe

_REASON = 300  # characters
_TURN = 4  # places by which the order of the contestants moves on: nobody always follows the same one after a rest


@dataclass(frozen=True, slots=True)
class Step:
    """One measurement, still to be made."""

    number: int  # of the round
    scenario: str
    contestant: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """
    Args:
        fastest: whether each library's fastest configuration alone runs the scenarios that take long.
        save: called after each measurement, so that nothing is lost if the run is ended.
    """

    scenarios: Mapping[str, Scenario]
    results: Results
    benches: Mapping[str, Bench]
    fastest: bool
    save: Callable[[], None]

    def measure(self) -> None:
        """Makes all measurements, and tells on the way how long it will still take."""
        steps = [*self._steps()]
        total, passed, started = sum(self._seconds(step) for step in steps), 0.0, time.monotonic()
        for count, step in enumerate(steps, 1):
            told = self._step(step)
            passed += self._seconds(step)
            gone = time.monotonic() - started
            left = gone / passed * (total - passed)
            clock = f"{gone / 60:.0f} min gone, about {left / 60:.0f} left"
            click.echo(f"[{count}/{len(steps)}, {clock}] {step.scenario} {step.number}: {step.contestant}: {told}", err=True)
            self.save()

    def _steps(self) -> Iterator[Step]:
        order = deque(self.benches)
        for number in range(1, self.results.runs[-1].rounds + 1):
            for name, scenario in self.scenarios.items():
                if number <= scenario.rounds:
                    yield from [Step(number, name, contestant) for contestant in order]
                    order.rotate(_TURN)

    def _seconds(self, step: Step) -> float:
        """A guess; of a scenario for the fastest configurations only, spread over all."""
        scenario = self.scenarios[step.scenario]
        if not (self.fastest and scenario.fastest):
            return scenario.seconds
        return scenario.seconds * len({bench.contestant.module for bench in self.benches.values()}) / len(self.benches)

    def _step(self, step: Step) -> str:
        """Measures, and tells what came out."""
        entry = self.results.entries[step.contestant]
        if step.number == 1:
            self.results.begin(step.scenario, step.contestant)
        if reason := self._refusal(step):
            entry.dashes[step.scenario] = reason
            return f"- ({reason})"
        try:
            outcome = self.scenarios[step.scenario].measure(self.benches[step.contestant])
        except Exception as error:
            return self._broken(step, error)
        entry.add(step.scenario, outcome)
        if broken := entry.dashes.pop(step.scenario, None):
            entry.notes[step.scenario].append(f"an earlier round: {broken}")
        return _told(outcome)

    def _refusal(self, step: Step) -> str | None:
        """Why it is not measured at all."""
        bench, entry = self.benches[step.contestant], self.results.entries[step.contestant]
        if refused := bench.described["refuses"].get(step.scenario):
            return str(refused)
        fastest = self.results.fastest(entry.library)
        if self.fastest and self.scenarios[step.scenario].fastest and fastest not in (None, step.contestant):
            return f"measured with {fastest}, which drained faster"
        return None

    def _broken(self, step: Step, error: Exception) -> str:
        entry, reason = self.results.entries[step.contestant], reason_of(error)
        if not isinstance(error, Refused | Broken):
            click.echo(traceback.format_exc(), err=True)
        if step.scenario in entry.figures:  # in an earlier round, which counts
            entry.notes[step.scenario].append(f"round {step.number}: {reason}")
        else:
            entry.dashes[step.scenario] = reason
        return f"- ({error})"


def benches(
    contestants: Sequence[Contestant], server: str, sizes: Sizes, results: Results, scenarios: Sequence[str], stack: ExitStack
) -> Mapping[str, Bench]:
    """Of all contestants that can be had here; the others get their dashes at once."""
    found: dict[str, Bench] = {}
    url: str | None = None
    for contestant in contestants:
        entry = results.entries.setdefault(contestant.name, Entry(label=contestant.name, library=contestant.module))
        try:
            python = environments.python(contestant.environment)
            described = describe(contestant, python)
            if contestant.redis:
                url = url or stack.enter_context(redis.server())
                results.runs[-1].machine["redis"] = redis.version()
        except (environments.Unavailable, Broken) as error:
            entry.dashes |= {scenario: reason_of(error) for scenario in scenarios if scenario not in entry.figures}
            click.echo(f"{contestant.name} takes no part: {error}", err=True)
            continue
        entry.label, entry.configuration = described["label"], described["configuration"]
        entry.versions, entry.about = described["versions"], described["about"]
        found[contestant.name] = _bench(contestant, python, server, described, sizes, url)
    return found


def _bench(
    contestant: Contestant, python: Path, server: str, described: Mapping[str, object], sizes: Sizes, url: str | None
) -> Bench:
    redis_url = url if contestant.redis else None
    return Bench(contestant=contestant, python=python, server=server, described=described, sizes=sizes, redis=redis_url)


def reason_of(error: Exception) -> str:
    """In one line: what failed, and the last word of whatever failed."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return (lines[0] if len(lines) == 1 else f"{lines[0]} {lines[-1]}")[:_REASON]


def _told(outcome: Outcome) -> str:
    return ", ".join(f"{name} {value:,.5g}" for name, value in outcome.figures.items())
