"""The results as a page in Markdown: an overview, a table per scenario, the goals, and why there are dashes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.compare import goals
from benchmarks.compare.columns import OVERVIEW, TABLES, Column, Table
from benchmarks.compare.results import OWN, Entry, Ran, Results

_DASH = "–"  # noqa: RUF001
_INTRODUCTION = """# pgq-sync and its peers

Made by `make bench-compare`, from [results.json](results.json): do not edit. What each scenario does is told in
[benchmarks](../benchmarks.md). The server has its default settings, but takes 200 connections, and counts statements while
`idle` is measured. The contestants take turns within each round, another one first each time. Figures are medians over the
rounds, with the smallest and the largest where there were several; what takes long is measured once, and latency twice.
"/ drain" compares with the drain of the same round. "best" is what made a library fastest at jobs without work, among what
its own documentation offers: what was tried is told in its module in `benchmarks/compare/drivers`. Most jobs have work to do;
then these differences are a smaller part of the whole.
"""
_PROMISES = """## What they promise

Figures are those of libraries that promise different things. A job that is forgotten as soon as it is fetched, or that lies
in memory, costs less than one whose every step reaches the disk, and one of which nothing is kept less than one that stays.
On PostgreSQL all wait for the disk with each commit, but for one: when pgq-sync's worker claims, it does not, since a claim that
a crash of the server loses leaves the job queued.
"""
_WORDS = {True: "yes", False: "**NO**", None: _DASH}


def text(results: Results) -> str:
    """The whole page."""
    return "\n".join(
        [
            _INTRODUCTION,
            *_machine(results),
            *_overview(results),
            *_promises(results),
            *_goals(results),
            *_tables(results),
            *_remarks(results),
        ]
    )


def _machine(results: Results) -> Iterator[str]:
    first, *later = results.runs
    yield "All figures come from one run:\n" if not later else "The figures come from this run:\n"
    yield "```"
    yield from (f"{what + ':':10}{description}" for what, description in first.machine.items())
    yield f"{'rounds:':10}{first.rounds}\n```\n"
    if later:
        yield "but for what was measured again later, on the same machine unless something else is said:\n"
        yield from (_measured_again(ran, first, results) for ran in later)
        yield ""


def _measured_again(ran: Ran, first: Ran, results: Results) -> str:
    by_contestants: dict[str, list[str]] = {}
    for scenario, names in ran.measured.items():
        if names:
            by_contestants.setdefault(_those(names, results), []).append(scenario)
    what = "; ".join(f"{', '.join(scenarios)} of {told}" for told, scenarios in by_contestants.items())
    differs = [f"{fact} {value}" for fact, value in ran.machine.items() if first.machine.get(fact) != value]
    return f"- {what} ({', '.join([f'rounds {ran.rounds}', *differs])})"


def _those(names: Sequence[str], results: Results) -> str:
    """Contestants in a few words."""
    others = sorted(results.entries.keys() - set(names))
    if not others:
        return "all"
    return f"all but {', '.join(others)}" if len(others) < len(names) else ", ".join(sorted(names))


def _overview(results: Results) -> Iterator[str]:
    yield "## At a glance\n"
    yield "![jobs per second](drain.svg)\n"
    yield from _table(results, Table("", "", OVERVIEW), with_range=False)


def _promises(results: Results) -> Iterator[str]:
    """A row for each library."""
    yield _PROMISES
    headings = (
        "a job whose worker is killed",
        "enqueued in your transaction",
        "kept of a job that is done",
        "once enqueued it is",
    )
    yield _row(["", *headings])
    yield _row(["---"] * (1 + len(headings)))
    libraries: dict[str, Entry] = {}
    for entry in results.entries.values():
        libraries.setdefault(entry.library, entry)
    for entry in filter(lambda entry: entry.about, libraries.values()):
        about = entry.about
        yield _row([_library(entry), about["crash"], about["joins"], about["finished"], about["stored"]])
    yield ""


def _library(entry: Entry) -> str:
    """By the name under which it is installed."""
    name = entry.about["packages"][0]
    return f"**{name}**" if name == "pgq-sync" else f"{name} {entry.versions[name]}"


def _tables(results: Results) -> Iterator[str]:
    yield "## Each scenario\n"
    for table in TABLES:
        if any(table.scenarios & (entry.figures.keys() | entry.dashes.keys()) for entry in results.entries.values()):
            yield f"### {table.title}\n\n{table.told}\n"
            yield from (f"![{table.title}]({plot}.svg)\n" for plot in table.plots)
            yield from _table(results, table, with_range=True)


def _table(results: Results, table: Table, *, with_range: bool) -> Iterator[str]:
    yield _row(["", *(column.heading for column in table.columns)])
    yield _row(["---", *("---:" for _ in table.columns)])
    for name, entry in results.entries.items():
        cells = [_cell(entry, column, with_range=with_range) for column in table.columns]
        if with_range and all(cell == _DASH for cell in cells):
            continue  # the remarks say why
        yield _row([f"**{entry.label}**" if name == OWN else entry.label, *cells])
    yield ""


def _cell(entry: Entry, column: Column, *, with_range: bool) -> str:
    value = column.value(entry)
    if value is None:
        return _DASH
    values = [] if column.of_drain else entry.values(column.scenario, column.figure)
    shown = column.shown(value)
    if not with_range or len(values) < 2:
        return shown
    return f"{shown} ({column.shown(min(values))}..{column.shown(max(values))})"


def _goals(results: Results) -> Iterator[str]:
    yield "## Goals\n"
    yield _row(["scenario", "figure", "goal", "measured", "met"])
    yield _row(["---", "---", "---:", "---:", "---"])
    for goal in goals.judged(results):
        measured = _DASH if goal.value is None else f"{_number(goal.value)} {goal.unit}".rstrip()
        wanted = f"{goal.goal.sign} {_number(goal.goal.bound)} {goal.unit}".rstrip()
        yield _row([goal.scenario, goal.figure, wanted, measured, _WORDS[goal.met]])
    yield from _limit(results)


def _limit(results: Results) -> Iterator[str]:
    """Two processes are held to their goal only while there are processors left."""
    entry = results.entries.get(OWN)
    busy = entry.value("processes", "cores busy") if entry else None
    if entry and busy is not None:
        workers, server = (entry.value("processes", name) or 0 for name in ("workers", "server"))
        yield (
            f"\nWhile two processes ran, all processors together were {busy:.0%} busy: "
            f"the workers took {workers:.2f} of them, the server {server:.2f}."
        )
    yield ""


def _remarks(results: Results) -> Iterator[str]:
    yield "## Configurations, remarks and dashes\n"
    for name, entry in results.entries.items():
        yield f"- **{name}**: {': '.join(filter(None, (entry.label, entry.configuration)))}"
        if entry.versions:
            yield f"  - {', '.join(f'{package} {version}' for package, version in entry.versions.items())}"
        by_text: dict[str, list[str]] = {}
        for scenario, reason in entry.dashes.items():
            by_text.setdefault(f"{_DASH} {reason}", []).append(scenario)
        for scenario, note in entry.about.get("remarks", {}).items():
            if scenario in entry.figures:
                by_text.setdefault(note, []).append(scenario)
        for scenario, notes in entry.notes.items():
            for note in notes:
                by_text.setdefault(note, []).append(scenario)
        yield from (f"  - {', '.join(scenarios)}: {_plain(told)}" for told, scenarios in by_text.items())
    yield ""


def _plain(told: str) -> str:
    """Drivers quote what others print; none of it shall be taken for Markdown or HTML."""
    return told.replace("<", "&lt;").replace("|", "\\|")


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.2f}"
