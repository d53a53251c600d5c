"""`python -m benchmarks.compare`: runs pgq-sync and its peers through the same scenarios, and writes table and plots."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import click

from benchmarks import machine
from benchmarks.compare import environments, report
from benchmarks.compare.bench import Scenario
from benchmarks.compare.contestants import CONTESTANTS
from benchmarks.compare.results import Ran, Results
from benchmarks.compare.run import Run, benches
from benchmarks.compare.scenarios import SCENARIOS
from benchmarks.compare.sizes import FULL, QUICK
from benchmarks.servers import server

_ROOT = Path(__file__).parents[2]
_OUTPUT = _ROOT / "docs" / "benchmarks"
_ASIDE = _ROOT / ".bench" / "results"  # of runs that are not whole
_SETTINGS = {
    "shared_preload_libraries": "pg_stat_statements",
    "pg_stat_statements.track": "none",
    "max_connections": "200",  # for who has two of them in each of 50 processes
}
_NAMES = [contestant.name for contestant in CONTESTANTS]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--only", multiple=True, type=click.Choice(list(SCENARIOS)), help="Only this scenario; may be repeated.")
@click.option("--peer", "peers", multiple=True, type=click.Choice(_NAMES), help="Only this contestant; may be repeated.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="At most; what takes long is done once.")
@click.option("--quick", is_flag=True, help="Tiny sizes and one round: shows that everything works, and no figures to trust.")
@click.option("--dsn", help="A server to use in place of an embedded one; its role must be a superuser's.")
@click.option("--add", is_flag=True, help="Keeps the results that lie there, but for what is measured again.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Where results, table and plots are written.  [default: docs/benchmarks; of a run that is not whole, .bench/results]",
)
@click.option("--report-only", is_flag=True, help="Measures nothing: table and plots of the results that lie there.")
def main(
    only: Sequence[str],
    peers: Sequence[str],
    rounds: int,
    quick: bool,
    dsn: str | None,
    add: bool,
    output: Path | None,
    report_only: bool,
) -> None:
    """Measures pgq-sync and its peers. Exits with 0 whether or not the goals are met: who breaks gets a dash and the reason.

    Of each library only the configuration that drains fastest runs the scenarios that take long, unless contestants are
    chosen by --peer.
    """
    whole = add or report_only or not (only or peers or quick)
    directory = output or (_OUTPUT if whole else _ASIDE)
    written = directory / "results.json"
    if (report_only or add) and not written.exists():
        raise click.UsageError(
            f"there are no results in {directory}: run without --report-only and --add first, or name --output"
        )
    if not report_only:
        chosen = {name: scenario for name, scenario in SCENARIOS.items() if name in only or not only}
        results = Results.read(written) if add else Results()
        if written.exists() and not add:
            click.echo(f"the results that lie in {directory} are replaced; --add would keep them", err=True)
        _measure(chosen, peers, 1 if quick else rounds, quick, dsn, written, results)
    (directory / "comparison.md").write_text(report.text(Results.read(written)))
    click.echo(f"written to {directory}", err=True)
    _draw(written)


def _measure(
    scenarios: Mapping[str, Scenario],
    peers: Sequence[str],
    rounds: int,
    quick: bool,
    dsn: str | None,
    written: Path,
    results: Results,
) -> None:
    contestants = [contestant for contestant in CONTESTANTS if contestant.name in peers or not peers]
    with ExitStack() as stack:
        running = stack.enter_context(server(dsn, _SETTINGS))
        tiny = {"sizes": "tiny (--quick): no figures to trust"} if quick else {}
        results.runs.append(Ran({**machine.describe(running), **tiny}, rounds))
        sizes = QUICK if quick else FULL
        there = benches(contestants, running, sizes, results, list(scenarios), stack)
        results.write(written)
        save = lambda: results.write(written)  # noqa: E731
        Run(scenarios=scenarios, results=results, benches=there, fastest=not peers, save=save).measure()


def _draw(written: Path) -> None:
    """Plots are drawn in the peers' environment: pgq-sync itself has no use for what draws them."""
    try:
        python = environments.python("peers")
    except environments.Unavailable as reason:
        click.echo(f"no plots: {reason}", err=True)
        return
    command = [str(python), "-m", "benchmarks.compare.plots", str(written.resolve())]
    if subprocess.run(command, cwd=_ROOT).returncode:
        click.echo("no plots: drawing them has failed", err=True)


if __name__ == "__main__":
    main()
