"""On what the figures were measured: the machine, and the versions of everything that takes part."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path

import psycopg

from pgq_sync import __version__

_TELLING = ("fsync", "synchronous_commit", "full_page_writes", "shared_buffers")


def describe(server: str) -> Mapping[str, str]:
    """The machine and the versions, by what they are called."""
    return {
        "machine": f"{_processor()}, {os.cpu_count()} cores, {_memory():.0f} GB, {platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "postgres": _postgres(server),
        "psycopg": f"{psycopg.__version__} ({psycopg.pq.__impl__})",
        "pgq-sync": __version__,
        "load": f"{os.getloadavg()[0]:.1f} before the run",
    }


def _processor() -> str:
    """The processor's model, which Python itself knows on few systems."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _memory() -> float:
    """In gigabytes of 2**30 bytes."""
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")) / 2**30


def _postgres(server: str) -> str:
    with psycopg.connect(server, autocommit=True) as connection:
        version = connection.info.parameter_status("server_version")
        settings = [f"{name} {connection.execute(f'show {name}'.encode()).fetchall()[0][0]}" for name in _TELLING]
    return f"{version} ({', '.join(settings)})"
