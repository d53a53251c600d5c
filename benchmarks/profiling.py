"""`python -m benchmarks.profiling`: where the time of a drained job goes, in the server and in the worker.

The server's part by pg_stat_statements, with the plans that auto_explain saw; the worker's by py-spy, where that is
installed (`pip install py-spy`): which threads hold the interpreter, and in which lines.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import psycopg

from benchmarks import machine
from benchmarks.children import child
from benchmarks.draining import work
from benchmarks.servers import checkpoint, database, load, server

_SETTINGS = {
    "shared_preload_libraries": "pg_stat_statements",
    "session_preload_libraries": "auto_explain",
    "pg_stat_statements.track_utility": "off",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_buffers": "on",
    "auto_explain.log_timing": "off",
}
_STATEMENTS = r"""
select calls, rows, mean_exec_time, 1000 * total_exec_time / nullif(rows, 0), regexp_replace(query, '\s+', ' ', 'g')
from pg_stat_statements
where dbid = (select oid from pg_database where datname = current_database()) and query not like 'select calls%'
order by total_exec_time desc limit 6
"""
_LINES = 25
_EVERY = "0.02"  # of the statements, whose plans are logged


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--jobs", type=click.IntRange(1), default=400_000, show_default=True, help="How many no-op jobs to drain.")
@click.option("--plans", is_flag=True, help="Also shows a plan of each of the two statements; it costs time.")
def main(jobs: int, plans: bool) -> None:
    """Profiles a drain."""
    settings = _SETTINGS | ({"auto_explain.log_min_duration": "0", "auto_explain.sample_rate": _EVERY} if plans else {})
    with server(None, settings) as running, database(running) as dsn, tempfile.TemporaryDirectory() as directory:
        for what, description in machine.describe(running).items():
            click.echo(f"{what + ':':10}{description}")
        load(dsn, jobs)
        checkpoint(dsn)
        raw = Path(directory) / "raw"
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("create extension pg_stat_statements")
            with child(work, dsn, 1) as process:
                spy = _spy(process.pid, raw)
                done, seconds = process.answer()
            if spy is not None:
                spy.wait()
            click.echo(f"\n{done / seconds:,.0f} jobs/s, profiled\n\nThe server: calls, rows, ms per call, us per row")
            for calls, rows, mean, each, query in connection.execute(_STATEMENTS.encode()).fetchall():
                click.echo(f"{calls:7,} {rows:9,} {mean:8.3f} {each or 0:8.2f}  {query[:80]}")
            if plans:
                log = connection.execute("select setting || '/log' from pg_settings where name = 'data_directory'").fetchall()
                click.echo("\n".join(_plans(Path(log[0][0]))))
        if raw.exists():
            click.echo("\n".join(_summary(raw)))


def _spy(pid: int, raw: Path) -> subprocess.Popen[bytes] | None:
    """Has py-spy sample who holds the process's interpreter, until that ends."""
    if (spy := shutil.which("py-spy", path=f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin")) is None:
        click.echo(f"py-spy is not installed: no profile of the worker; `{sys.executable} -m pip install py-spy`", err=True)
        return None
    options = ["--gil", "--threads", "--rate", "250", "--format", "raw", "--output", str(raw), "--pid", str(pid)]
    return subprocess.Popen([spy, "record", *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _plans(log: Path) -> Iterator[str]:
    """The last plans of the claim and of the finish."""
    entries = log.read_text(errors="replace").split("duration: ")
    for what in ("picked as materialized", "with outcome as"):
        plans = [entry for entry in entries if what in entry and "Query Text" in entry]
        yield f"\n{len(plans)} plans with {what!r}{'; the last:' if plans else ' were sampled: give more --jobs'}"
        if plans:
            yield from (line.rstrip()[:150] for line in plans[-1].splitlines() if "(cost=" in line or "Buffers" in line)


def _summary(raw: Path) -> Iterator[str]:
    samples = [(stack.split(";"), int(count)) for stack, _, count in (line.rpartition(" ") for line in raw.open())]
    total = sum(count for _, count in samples) or 1
    threads, lines = Counter[str](), Counter[str]()
    for stack, count in samples:
        thread = stack[0].rpartition(": ")[2]
        threads["pgq-slot, all" if thread.startswith("pgq-slot") else thread] += count
        lines[stack[-1]] += count
    yield "\nThe worker: share of the interpreter's time by thread, and by line"
    yield from _shares(threads.most_common(5), total)
    yield from _shares(lines.most_common(_LINES), total)


def _shares(counted: Sequence[tuple[str, int]], total: int) -> Iterator[str]:
    return (f"{100 * count / total:5.1f} %  {what[:110]}" for what, count in counted)


if __name__ == "__main__":
    main()
