"""`manage.py demo`: the whole shop by one command. It connects to no database itself; the commands that it starts do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NoReturn

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from pgq_sync.errors import ConfigError
from pgq_sync.storage.embedded import embedded_postgres

PATIENCE = 30  # seconds for a worker's last jobs; its own shutdown_timeout is shorter


class Command(BaseCommand):
    """Runs database, worker and web server until Ctrl-C."""

    help = "Runs the shop: an embedded PostgreSQL unless DATABASE_URL names another one, a worker and the web server."
    requires_system_checks: Sequence[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=8000, help="Of the web server; 0: any that is free.")
        parser.add_argument(
            "--data", type=Path, default=settings.BASE_DIR / ".pgq-sync/postgres", help="The embedded PostgreSQL's directory."
        )

    def handle(self, *args: Any, port: int, data: Path, **options: Any) -> None:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _interrupt)
        try:
            with ExitStack() as stack:
                if "DATABASE_URL" not in os.environ:
                    self.stdout.write(f"PostgreSQL starts, its data are in {data}")
                    os.environ["DATABASE_URL"] = stack.enter_context(embedded_postgres(data))
                subprocess.run(_manage("migrate", "--verbosity=0"), cwd=settings.BASE_DIR, check=True)
                subprocess.run(_manage("stock"), cwd=settings.BASE_DIR, check=True)
                self.stdout.write(f"mails are written to {settings.MAILS}; the admin's user is admin, with the password admin")
                running = [stack.enter_context(_started(*command)) for command in _commands(port)]
                while all(process.poll() is None for process in running):
                    time.sleep(0.2)  # between two looks at whether they still run
                raise CommandError("the shop is closed, since one of its processes has ended")
        except KeyboardInterrupt:
            self.stdout.write("the shop is closed")
        except ConfigError as error:
            raise CommandError(str(error)) from error
        except subprocess.CalledProcessError as error:
            raise CommandError(f"manage.py {error.cmd[2]} has failed") from error


def _commands(port: int) -> list[tuple[str, ...]]:
    return [("pgq_worker",), ("runserver", f"127.0.0.1:{port}")]


@contextmanager
def _started(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command that runs meanwhile. Ctrl-C in the terminal reaches this process alone, which then stops them in order."""
    process = subprocess.Popen(_manage(*command), cwd=settings.BASE_DIR, start_new_session=True)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()


def _manage(*command: str) -> list[str]:
    return [sys.executable, str(settings.BASE_DIR / "manage.py"), *command]


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt
