"""Draws the results: `python -m benchmarks.compare.plots RESULTS`, run where matplotlib is, which pgq-sync does not need.

One colour marks pgq-sync, the others are quiet; contestants keep their order in all plots. White lies behind, so that
the plots can be read on dark pages too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.compare.results import OWN, Entry, Results

_OWN, _QUIET = "#1f6feb", "#aab4c0"
_OWN_PALE, _QUIET_PALE = "#a9c8f7", "#dde2e8"  # the lesser part of a bar in two parts
_INK, _FAINT, _GRID = "#24292f", "#6e7781", "#eaeef2"
_WIDTH = 8.0  # inches, at 200 points each in the PNG
_ROW, _FRAME = 0.34, 1.25  # inches: for each contestant, and for title and axis
_ROOM = 2.1  # times the logarithmic width of the spans, so that their figures fit beside them
_STYLE = {
    "font.family": "sans-serif",
    "font.size": 10.5,
    "svg.fonttype": "path",
    "svg.hashsalt": "pgq-sync",  # the same figures make the same file
    "text.color": _INK,
    "axes.edgecolor": _GRID,
    "axes.labelcolor": _FAINT,
    "xtick.color": _FAINT,
    "ytick.color": _INK,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
}

Value = Callable[[Entry], float | None]


@dataclass(frozen=True)
class Panel:
    """One axis of bars.

    Args:
        values: each contestant's bar; two lie over one another, the larger one pale.
        spans: in place of bars, a line from the first value to the second, on a logarithmic axis.
        ideal: where a line is drawn.
    """

    title: str
    values: Sequence[Value]
    form: str
    spans: bool = False
    both: bool = False  # of the values are written beside the bar, and not the last one only
    ideal: float | None = None

    def said(self, value: float) -> str:
        """With as many digits as mean something."""
        return f"{value:,.0f}" if value >= 100 else self.form.format(value)


@dataclass(frozen=True)
class Plot:
    """A picture of panels beside one another, with the contestants that have any bar in them."""

    title: str
    told: str
    panels: Sequence[Panel]


def figure(scenario: str, name: str) -> Value:
    return lambda entry: entry.value(scenario, name)


def share(scenario: str, name: str = "jobs/s") -> Value:
    """Of the plain drain."""
    return lambda entry: entry.ratio(scenario, name)


def _latency(rate: str) -> Panel:
    return Panel(
        f"{rate} jobs/s", (figure("latency", f"{rate}/s p50"), figure("latency", f"{rate}/s p99")), "{:,.1f}", True, True
    )


def _flat(title: str, scenario: str, name: str = "jobs/s") -> Panel:
    return Panel(title, (share(scenario, name),), "{:.2f}", ideal=1)


PLOTS: Mapping[str, Plot] = {
    "drain": Plot(
        "Jobs without work, per second",
        "100,000 jobs wait, one worker process",
        (Panel("", (figure("drain", "jobs/s"),), "{:,.0f}"),),
    ),
    "latency": Plot(
        "From enqueue to handler, in milliseconds",
        "from the median to the 99th percentile, on a logarithmic scale; further left is better",
        (_latency("1"), _latency("100"), _latency("1,000")),
    ),
    "flatness": Plot(
        "Does it stay as fast?",
        "jobs per second as a share of the plain drain; at the dashed line nothing is lost (priorities: 10,000, or all)",
        (
            _flat("loaded tables", "loaded"),
            _flat("held-back vacuum", "horizon"),
            _flat("10,000 queues", "lanes", "queues jobs/s"),
            _flat("10,000 priorities", "lanes", "priorities jobs/s"),
        ),
    ),
    "waiting": Plot(
        "Jobs that wait 10 ms, on 50 slots",
        "share of the 5,000 per second that are possible",
        (Panel("", (figure("waiting", "share"),), "{:.0%}", ideal=1),),
    ),
    "memory": Plot(
        "Memory of the worker's processes, in MB",
        "resident after 500,000 jobs or a minute, what forked processes share counted once; less is better",
        (Panel("", (figure("memory", "late MB, shared once"),), "{:,.0f}"),),
    ),
    "wal": Plot(
        "Write-ahead log for each job, in bytes",
        "with a payload of 100 bytes; dark: of running it, pale: of filling it in; less is better",
        (Panel("", (figure("wal", "run bytes/job"), figure("wal", "bytes/job")), "{:,.0f}"),),
    ),
}


def draw(results: Results, directory: Path) -> None:
    """Writes each plot for which there are figures, as PNG and as SVG."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams.update(_STYLE)
    for name, plot in PLOTS.items():
        entries = {key: entry for key, entry in results.entries.items() if _drawn(plot, entry)}
        if entries:
            _draw(plot, entries, directory / name)


def _drawn(plot: Plot, entry: Entry) -> bool:
    return any(value(entry) is not None for panel in plot.panels for value in panel.values)


def _draw(plot: Plot, entries: Mapping[str, Entry], path: Path) -> None:
    from matplotlib import pyplot

    height = _ROW * len(entries) + _FRAME
    picture, axes = pyplot.subplots(
        1, len(plot.panels), figsize=(_WIDTH, height), sharey=True, squeeze=False, layout="constrained"
    )
    picture.get_layout_engine().set(rect=(0, 0, 1, 1 - 0.62 / height), wspace=0.03)
    picture.text(0.012, 1 - 0.14 / height, plot.title, fontsize=14, fontweight="bold", va="top")
    picture.text(0.012, 1 - 0.42 / height, plot.told, fontsize=10, color=_FAINT, va="top")
    highest, lowest = _limits(plot, entries)
    for axis, panel in zip(axes[0], plot.panels, strict=True):
        _axis(axis, panel, lowest, highest)
        _panel(axis, panel, entries)
    _names(axes[0][0], entries)
    picture.savefig(path.with_suffix(".png"), dpi=200)
    picture.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    pyplot.close(picture)


def _limits(plot: Plot, entries: Mapping[str, Entry]) -> tuple[float, float]:
    """All panels of a plot have the same scale."""
    values = [value(entry) for panel in plot.panels for value in panel.values for entry in entries.values()]
    there = [value for value in (*values, *(panel.ideal for panel in plot.panels)) if value]
    return max(there, default=1.0), min(there, default=0.5)


def _panel(axis: Any, panel: Panel, entries: Mapping[str, Entry]) -> None:
    for place, (name, entry) in enumerate(entries.items()):
        _mark(axis, panel, place, [value(entry) for value in panel.values], name == OWN)
    if panel.ideal is not None:
        axis.axvline(panel.ideal, color=_FAINT, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)


def _mark(axis: Any, panel: Panel, place: int, values: Sequence[float | None], own: bool) -> None:
    """One contestant's bar or span, and its figures."""
    there = [value for value in values if value is not None]
    if not there:
        axis.text(0.01, place, "–", transform=axis.get_yaxis_transform(), va="center", color=_FAINT)  # noqa: RUF001
        return
    (_span if panel.spans else _bars)(axis, place, there, (_OWN, _OWN_PALE) if own else (_QUIET, _QUIET_PALE))
    said = " / ".join(panel.said(value) for value in (there if panel.both else there[-1:]))
    style = {"color": _INK if own else _FAINT, "fontweight": "bold" if own else "normal", "fontsize": 9}
    behind = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
    offset = (8 if panel.spans else 4, 0)
    axis.annotate(
        said, (max(there), place), xytext=offset, textcoords="offset points", va="center", zorder=3, bbox=behind, **style
    )


def _bars(axis: Any, place: int, values: Sequence[float], colours: tuple[str, str]) -> None:
    for value, colour in reversed([*zip(values, colours, strict=False)]):
        axis.barh(place, value, height=0.66, color=colour, zorder=2)


def _span(axis: Any, place: int, values: Sequence[float], colours: tuple[str, str]) -> None:
    dark, pale = colours
    axis.axhline(place, color=_GRID, linewidth=0.8, zorder=1)
    axis.plot([values[0], values[-1]], [place, place], color=pale, linewidth=6, solid_capstyle="round", zorder=2)
    axis.plot(values[:1], [place], "o", color=dark, markersize=8, zorder=3)


def _axis(axis: Any, panel: Panel, lowest: float, highest: float) -> None:
    """Room for the figures at the bars' ends, and nothing that the figures say already."""
    from matplotlib.ticker import NullLocator

    if panel.title:
        axis.set_title(panel.title, fontsize=9.5, color=_INK, loc="left", pad=4)
    if panel.spans:
        low = lowest / 1.6
        axis.set_xscale("log")
        axis.set_xlim(low, low * (highest / low) ** _ROOM)
    else:
        axis.set_xlim(0, highest * (1.5 if panel.title else 1.15))
    axis.xaxis.set_major_locator(NullLocator())
    axis.xaxis.set_minor_locator(NullLocator())
    axis.tick_params(axis="y", length=0)
    for side in ("top", "right", "bottom"):
        axis.spines[side].set_visible(False)


def _names(axis: Any, entries: Mapping[str, Entry]) -> None:
    axis.set_yticks(range(len(entries)), [entry.label for entry in entries.values()])
    axis.set_ylim(len(entries) - 0.5, -0.5)  # the first on top
    for name, tick in zip(entries, axis.get_yticklabels(), strict=True):
        tick.set_fontweight("bold" if name == OWN else "normal")


if __name__ == "__main__":
    given = Path(sys.argv[1])
    draw(Results.read(given), given.parent)
