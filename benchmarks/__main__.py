"""`python -m benchmarks`: prints the machine and the versions, runs the scenarios, prints their medians and goals.

Every scenario's worker runs in a process of its own, at pgq-sync's and the server's default settings.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Mapping, Sequence

import click

from benchmarks import claims, draining, fleet, idle, latency, limits, machine, processes, pruning, table
from benchmarks.extent import FULL, QUICK, Extent
from benchmarks.readings import Reading, Scenario
from benchmarks.servers import server

SCENARIOS: Mapping[str, Scenario] = {
    "latency": latency.measure,
    "drain": draining.measure_drain,
    "claim_flat": claims.measure,
    "entrypoints": draining.measure_entrypoints,
    "limits": limits.measure,
    "fleet_looks": fleet.measure,
    "idle": idle.measure,
    "processes": processes.measure,
    "pruning": pruning.measure,
}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--only", "chosen", multiple=True, type=click.Choice(list(SCENARIOS)), help="Only this scenario; may be repeated.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="How often to measure each.")
@click.option("--quick", is_flag=True, help="Small sizes and one round: shows that everything works, and no figures to trust.")
@click.option("--dsn", help="A server to use in place of an embedded one; its role must be allowed to create databases.")
def main(chosen: Sequence[str], rounds: int, quick: bool, dsn: str | None) -> None:
    """Measures pgq-sync. Exits with 1 if a scenario broke, and with 0 whether or not the goals are met."""
    with server(dsn) as running:
        for what, description in machine.describe(running).items():
            click.echo(f"{what + ':':10}{description}")
        if quick:
            click.echo("sizes:    tiny (--quick): no figures to trust, whatever the goals say")
        click.echo(f"\n{table.head()}")
        extent, rounds = (QUICK, 1) if quick else (FULL, rounds)
        unbroken = [_report(name, running, extent, rounds) for name in chosen or SCENARIOS]
    sys.exit(0 if all(unbroken) else 1)


def _report(name: str, server: str, extent: Extent, rounds: int) -> bool:
    """Runs a scenario and prints its rows; tells whether it could be measured."""
    try:
        readings = [_round(name, server, extent, number, rounds) for number in range(1, rounds + 1)]
    except Exception:
        click.echo(f"{name} broke:\n{traceback.format_exc()}", err=True)
        return False
    for row in table.rows(name, readings):
        click.echo(row)
    return True


def _round(name: str, server: str, extent: Extent, number: int, rounds: int) -> Sequence[Reading]:
    click.echo(f"{name}: round {number} of {rounds}", err=True)
    return SCENARIOS[name](server, extent)


if __name__ == "__main__":
    main()
