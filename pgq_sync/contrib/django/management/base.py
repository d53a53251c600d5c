"""Management commands that are pgq-sync's own command line behind Django's options."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from pgq_sync.cli.main import main
from pgq_sync.errors import ConfigError
from pgq_sync.settings import ENV_PREFIX, TEST_DSN


class ForwardingParser(CommandParser):
    """Takes Django's own options; whatever else is given is for pgq-sync, --help too."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> argparse.Namespace:
        known, rest = self.parse_known_args(args, namespace)
        known.args = rest
        return known


class ClickCommand(BaseCommand):
    """A management command that calls pgq-sync, and ends with its exit code."""

    requires_system_checks: Sequence[str] = []

    def execute(self, *args: Any, **options: Any) -> Any:
        try:
            return super().execute(*args, **options)
        except ConfigError as error:
            raise CommandError(str(error), returncode=2) from error

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        made = super().create_parser(prog_name, subcommand, add_help=False, allow_abbrev=False, **kwargs)
        made.__class__ = ForwardingParser
        return made

    def call(self, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        """Runs pgq-sync in a process environment in which only these `PGQ_*` variables are set.

        Raises:
            SystemExit: it did not end well.
        """
        with (
            _environment(environment),
            contextlib.redirect_stdout(self.stdout._out),
            contextlib.redirect_stderr(self.stderr._out),
        ):
            try:
                main(list(arguments))
            except SystemExit as end:
                if end.code:
                    raise


@contextlib.contextmanager
def _environment(ours: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    for name in before:
        if name.startswith(ENV_PREFIX) and name != TEST_DSN:
            del os.environ[name]
    os.environ.update(ours)
    _be_found_by_children()
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _be_found_by_children() -> None:
    """Has the processes that this one starts find the project as this one does, wherever they are started from."""
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(os.path.abspath(path) for path in sys.path))
