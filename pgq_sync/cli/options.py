"""Options that commands share, made from the fields of Settings, and the application that they describe."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from pgq_sync.app import PgQueuer
from pgq_sync.errors import ConfigError
from pgq_sync.settings import Settings, described, parse, parse_duration
from pgq_sync.storage.connections import OwnPool
from pgq_sync.storage.dsn import read_dsn
from pgq_sync.storage.embedded import DEFAULT_DIRECTORY, embedded_postgres
from pgq_sync.storage.names import Names
from pgq_sync.storage.rights import rights_told

Command = TypeVar("Command", bound=Callable[..., Any])
DATABASE = ("dsn", "prefix", "schema")


def setting_options(*names: str) -> Callable[[Command], Command]:
    """One option for each of these settings; what is not given stays out of the settings."""

    def decorate(command: Command) -> Command:
        for name in reversed(names):
            option = "--" + name.replace("_", "-")
            command = click.option(option, name, metavar=_metavar(name), help=_help(name))(command)
        return command

    return decorate


class EmbeddedCommand(click.Command):
    """A command with --embedded [DIR], which takes what follows it for DIR only if that looks like a path.

    Otherwise `enqueue --embedded fetch` would make a database in the folder fetch, without a word.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ours = args[: args.index("--")] if "--" in args else args
        follows = ""  # what stands after --embedded and is not taken for its directory
        if "--embedded" in ours:
            index = ours.index("--embedded")
            follows = "".join(ours[index + 1 : index + 2])
            if not _looks_like_a_path(follows):
                args = [*args[:index], f"--embedded={DEFAULT_DIRECTORY}", *args[index + 1 :]]
        try:
            rest = super().parse_args(ctx, args)
        except click.UsageError as error:
            if follows and "unexpected extra argument" in error.message and f"{follows})" in error.message:
                hint = f"for a directory of --embedded write {os.path.join('.', follows)}"
                raise click.UsageError(f"{error.message}: {hint}", ctx) from None
            raise
        if ctx.params["embedded"] is not None and ctx.params["dsn"] is not None:
            raise click.UsageError("--embedded and --dsn name two databases: give one of them", ctx)
        return rest


_NO_ID = 'is no job id: whole numbers from 1 up are accepted, and "-" reads them from standard input'


class IdsCommand(EmbeddedCommand):
    """A command that takes ids, to which a negative number is none, and no option either."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        for word in args:
            if re.fullmatch(r"-\d+", word):
                raise click.BadParameter(f"{word!r} {_NO_ID}", ctx, param_hint="'ID...'")
        return super().parse_args(ctx, args)


def _looks_like_a_path(text: str) -> bool:
    return text.startswith((".", "~")) or os.sep in text or (text != "" and Path(text).is_dir())


def database_options(command: Command) -> Command:
    """Where the database is: --dsn, --prefix, --schema and --embedded."""
    embedded = click.option(
        "--embedded",
        is_flag=False,
        flag_value=str(DEFAULT_DIRECTORY),
        metavar="[DIR]",
        help=f"Run a PostgreSQL of our own, with the schema installed and its data in DIR (a path; {DEFAULT_DIRECTORY}).",
    )
    return setting_options(*DATABASE)(embedded(command))


def json_option(command: Command) -> Command:
    """--json: for machines."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")(command)


def read_ids(ctx: click.Context, param: click.Parameter, given: tuple[str, ...]) -> list[int]:
    """The ids that were given, those on standard input in the place of "-"."""
    words = [word for each in given for word in (sys.stdin.read().split() if each == "-" else [each])]
    for word in words:
        if not (word.isascii() and word.isdigit() and 0 < int(word) < 2**63):
            raise click.BadParameter(f"{word!r} {_NO_ID}", ctx, param)
    return list(map(int, words))


def ids_argument(command: Command) -> Command:
    """ID...: the ids of jobs."""
    return click.argument("ids", nargs=-1, required=True, metavar="ID...", callback=read_ids)(command)


def id_argument(command: Command) -> Command:
    """ID: that of one job."""
    return click.argument("ids", metavar="ID", nargs=1, callback=lambda ctx, param, word: read_ids(ctx, param, (word,)))(command)


def settings_from(options: Mapping[str, str | None], environ: Mapping[str, str] | None = None) -> Settings:
    """The environment's settings, with the given options on top.

    Raises:
        ConfigError: an option or a variable cannot be used.
    """
    return Settings.from_env(environ, **parsed_options(options))


def parsed_options(options: Mapping[str, str | None]) -> dict[str, Any]:
    """The settings that were given as options.

    Raises:
        ConfigError: one of them cannot be used; it is named as it is written.
    """
    given = {name: text for name, text in options.items() if text is not None}
    if given.get("dsn"):
        read_dsn(given["dsn"], "--dsn")
    return {name: parse(name, text, "--" + name.replace("_", "-")) for name, text in given.items()}


@contextlib.contextmanager
def database(options: Mapping[str, str | None], embedded: str | None) -> Iterator[PgQueuer]:
    """An application on the database that the options describe, closed at the end."""
    with embedded_environment(embedded):
        settings = settings_from(options)
        names = Names(settings.prefix, settings.schema)
        with rights_told(OwnPool(settings), names), PgQueuer.from_dsn(settings=settings) as pgq:
            if embedded is not None:
                pgq.schema.install()
            yield pgq


@contextlib.contextmanager
def arguments_told() -> Iterator[None]:
    """For calls that refuse what they are given: then the command was called wrongly."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise ConfigError(str(error)) from None


@contextlib.contextmanager
def embedded_environment(directory: str | None) -> Iterator[None]:
    """Runs the embedded server meanwhile, if a directory is given; PGQ_DSN then names it to everything in this process."""
    if directory is None:
        yield
        return
    with embedded_postgres(Path(directory)) as dsn:
        os.environ["PGQ_DSN"] = dsn
        os.environ.pop("PGQ_LISTEN_DSN", None)  # it names another server
        yield


def given_options(context: click.Context, *, but: Collection[str]) -> list[str]:
    """The options of this call as they would be written again, without those named in `but` and what was left to a default."""
    written: list[str] = []
    for option in context.command.params:
        name = option.name or ""
        given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if isinstance(option, click.Option) and given and name not in but:
            written += _written(option, context.params[name])
    return written


def _written(option: click.Option, value: Any) -> list[str]:
    if option.is_flag:
        return [(option.opts if value else option.secondary_opts)[-1]]
    return [f"{option.opts[-1]}={each}" for each in (value if option.multiple else [value])]


class Duration(click.ParamType[timedelta]):
    """A duration on the command line."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        try:
            return value if isinstance(value, timedelta) else parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _metavar(name: str) -> str:
    _, default = described(name)
    if isinstance(default, timedelta):
        return "DURATION"
    return "N" if isinstance(default, int) or name == "batch_size" else "TEXT"


def _help(name: str) -> str:
    meaning, default = described(name)
    if default is None:
        return meaning
    shown = f"{default.total_seconds():g} s" if isinstance(default, timedelta) else default
    return f"{meaning}  [default: {shown}]"
