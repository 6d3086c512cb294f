"""The `freshet` command. Every package registers its own subcommands (entry points, group
freshet.commands)."""

import sys
from importlib.metadata import EntryPoint, entry_points
from typing import NoReturn

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from infra.settings import describe
from protos.errors import FreshetError

COMMANDS = "freshet.commands"


def build_app(words: list[str]) -> typer.Typer:
    """Return the command line. Only the subcommand named first in `words` is imported, so that
    `freshet status` waits for no torch, and a producer needs no extra but its own; none named:
    all, for the help.
    """
    app = typer.Typer(
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        help="A streaming recommender: events in by Kafka, a changed feed out by gRPC.",
    )

    @app.callback()
    def _root() -> None:
        """Keep subcommands subcommands, even when there is only one."""

    entries = {entry.name: entry for entry in entry_points(group=COMMANDS)}
    named = [entries[words[0]]] if words and words[0] in entries else list(entries.values())
    for entry in sorted(named, key=lambda entry: entry.name):
        _add(app, entry)
    return app


def _add(app: typer.Typer, entry: EntryPoint) -> None:
    try:
        target = entry.load()
    except ModuleNotFoundError as error:
        message = f"`freshet {entry.name}` needs a part that is not installed ({error.name}); "
        message += f"run: pip install 'freshet[{entry.module.partition('.')[0]}]'"

        def target() -> None:
            raise FreshetError(message)

        target.__doc__ = "(not installed)"
    if isinstance(target, typer.Typer):
        app.add_typer(target, name=entry.name)
    else:
        app.command(name=entry.name)(target)


def main() -> None:
    """Run the command; an error raised on purpose becomes one sentence and exit code 1."""
    try:
        build_app(sys.argv[1:])()
    except FreshetError as error:
        _fail(str(error))
    except ValidationError as error:  # settings: a value from the environment
        _fail(describe(error))


def _fail(message: str) -> NoReturn:
    text = f"[bold red]error:[/] {escape(message)}"
    Console(stderr=True).print(text, highlight=False, soft_wrap=True)
    sys.exit(1)
