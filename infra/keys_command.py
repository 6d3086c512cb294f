"""`freshet keys new NAME --tenant T`: a key for a caller, shown once."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from infra.api_keys import checked_name, checked_tenants, digest_of, make_key, parse_keys
from infra.settings import DoorSettings
from infra.stack.state import write_atomically
from protos.errors import InvalidInput, NotReady

app = typer.Typer(help="API keys, for callers of the gRPC services and for the page.")


@app.callback()
def _root() -> None:
    """Keep `new` a subcommand, even while it is the only one."""


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Whose key it is: letters, digits, . _ -")],
    tenant: Annotated[
        list[str],
        typer.Option(help='A tenant it may act for; repeatable. "*": all, for our own processes.'),
    ],
    expires: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="The first day on which it is refused, in UTC."),
    ] = None,
    file: Annotated[
        Path | None, typer.Option(help="The file of keys; by default FRESHET_API_KEYS.")
    ] = None,
) -> None:
    """Make a key, print it, and append its hash to the file.

    The key is printed once and kept nowhere. Servers notice within a second. A key is revoked by
    deleting its entry.
    """
    path = file or DoorSettings.load().api_keys
    if path is None:
        raise NotReady("name the file of keys: --file, or FRESHET_API_KEYS")
    key = make_key()
    old, mode = (path.read_text(), path.stat().st_mode) if path.exists() else ("", None)
    text = "\n".join(filter(None, (old, entry_of(name, digest_of(key), tenant, expires))))
    try:
        parse_keys(text)
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error}") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text)
    if mode is not None:
        path.chmod(mode)
    typer.echo(key)
    Console(stderr=True).print(f"its hash is in {path}; the key itself is shown only here")


def entry_of(name: str, digest: str, tenants: list[str], expires: datetime | None) -> str:
    """Return an entry as TOML. Raises InvalidInput."""
    names = ", ".join(f'"{tenant}"' for tenant in sorted(checked_tenants(tenants)))
    lines = ["[[key]]", f'name = "{checked_name(name)}"', f'sha256 = "{digest}"']
    lines.append(f"tenants = [{names}]")
    if expires is not None:
        lines.append(f"expires = {expires.replace(tzinfo=UTC).isoformat()}")
    return "\n".join(lines) + "\n"
