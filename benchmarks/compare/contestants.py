"""Who takes part: each library in each configuration, and the interpreter in which its driver runs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Contestant:
    """One library in one configuration; its driver is benchmarks/compare/drivers/<module>.py."""

    module: str
    configuration: str
    environment: str = "peers"  # one of environments.py
    redis: bool = False  # its jobs lie in Redis

    @property
    def name(self) -> str:
        """By which it is chosen on the command line."""
        return f"{self.module}-{self.configuration}".replace("_", "-")


CONTESTANTS = (
    Contestant("pgq_sync", "defaults", "own"),
    Contestant("pgqueuer", "asyncpg"),
    Contestant("pgqueuer", "asyncpg_best"),
    Contestant("pgqueuer", "psycopg"),
    Contestant("pgqueuer", "psycopg_best"),
    Contestant("procrastinate", "defaults"),
    Contestant("procrastinate", "best"),
    Contestant("oban", "defaults", "oban"),
    Contestant("oban", "best", "oban"),
    Contestant("huey", "defaults"),
    Contestant("huey", "best"),
    Contestant("django_tasks", "defaults"),
    Contestant("django_tasks", "best"),
    Contestant("celery", "defaults", redis=True),
    Contestant("celery", "best", redis=True),
)
