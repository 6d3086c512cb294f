"""The `freshet` command. Every package registers its own subcommands (entry points, group freshet.commands)."""

import sys
from importlib.metadata import EntryPoint, entry_points

import click
import typer
from rich.console import Console

from protos.errors import FreshetError

COMMANDS = "freshet.commands"


class _Commands(typer.core.TyperGroup):
    """Imports a subcommand only when it is asked for: `freshet status` must not wait for torch."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(entry_points(group=COMMANDS).names)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = entry_points(group=COMMANDS, name=cmd_name)
        return _load(next(iter(found))) if found else None


def _load(entry: EntryPoint) -> click.Command:
    target = entry.load()
    if isinstance(target, typer.Typer):
        command: click.Command = typer.main.get_group(target)
    else:
        single = typer.Typer(add_completion=False)
        single.command(name=entry.name)(target)
        command = typer.main.get_command(single)
    command.name = entry.name
    return command


app = typer.Typer(
    cls=_Commands, name="freshet", add_completion=False, no_args_is_help=True, help=__doc__
)


@app.callback()
def _root() -> None:
    """A streaming recommender: events in by Kafka, a changed feed out by gRPC."""


def main() -> None:
    """Run the command; an error raised on purpose becomes one sentence and exit code 1."""
    try:
        app()
    except FreshetError as error:
        Console(stderr=True).print(f"[bold red]error:[/] {error}", highlight=False, soft_wrap=True)
        sys.exit(1)
