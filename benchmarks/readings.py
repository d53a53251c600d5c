"""What a scenario returns: its readings, each with the goal it is held to."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.extent import Extent


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound that a figure should keep."""

    sign: str  # "<=", "<" or ">="
    bound: float

    def met(self, value: float) -> bool:
        return bool(_COMPARISONS[self.sign](value, self.bound))


@dataclass(frozen=True, slots=True)
class Reading:
    """One figure of one round."""

    figure: str
    value: float
    unit: str = ""
    goal: Goal | None = None


Scenario = Callable[[str, Extent], Sequence[Reading]]
"""Measures one round on the server of the given DSN."""

_COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {"<=": operator.le, "<": operator.lt, ">=": operator.ge}
