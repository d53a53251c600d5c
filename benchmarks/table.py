"""The results as a table, in Markdown that reads well in a terminal too: one row per figure, medians over the rounds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

from benchmarks.readings import Goal, Reading

_WIDTHS = (11, 38, 14, 19, 10, 3)
_HEADINGS = ("scenario", "figure", "median", "min..max", "goal", "met")


def head() -> str:
    return f"{_line(_HEADINGS)}\n|{'|'.join('-' * (width + 2) for width in _WIDTHS)}|"


def rows(scenario: str, rounds: Sequence[Sequence[Reading]]) -> Iterator[str]:
    """The lines of one scenario; every round has the same figures in the same order."""
    for readings in zip(*rounds, strict=True):
        values = [reading.value for reading in readings]
        middle, first = median(values), readings[0]
        yield _line(
            (
                *(scenario, first.figure, f"{_number(middle)} {first.unit}".rstrip()),
                *(f"{_number(min(values))}..{_number(max(values))}", *_judged(first.goal, middle)),
            )
        )


def _judged(goal: Goal | None, value: float) -> tuple[str, str]:
    if goal is None:
        return "", ""
    return f"{goal.sign} {_number(goal.bound)}", "yes" if goal.met(value) else "NO"


def _number(value: float) -> str:
    """With as many digits as mean something."""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.2f}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.ljust(width) for cell, width in zip(cells, _WIDTHS, strict=True))} |"
