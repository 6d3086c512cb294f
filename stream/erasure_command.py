"""`freshet users erase`: everything known of a user, gone."""

import asyncio
import json
import sys
from collections.abc import Sequence
from typing import Annotated

import grpc.aio
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from infra.channels import aio_channel
from infra.endpoints import Endpoints
from infra.grpc_errors import from_rpc_error
from protos.errors import FreshetError, InvalidInput
from protos.keys import checked_id, checked_tenant
from protos.rec.v1.events_pb2 import Receipt
from protos.rec.v1.recommend_pb2 import FeedQuery, RecommendRequest
from protos.rec.v1.recommend_pb2_grpc import RecommendServiceStub
from stream.gateway_client import GatewayClient

WAIT_SCENARIO = "erasure"
"""What the recommender's counters call our questions by."""
N_NAMED = 5

app = typer.Typer(no_args_is_help=True, help="What is known of users, and how it is erased.")


@app.callback()
def _root() -> None:
    """Keep `erase` a subcommand, the only one so far."""


@app.command()
def erase(
    user_ids: Annotated[list[str], typer.Argument(metavar="USER...")],
    reason: Annotated[str, typer.Option(help="Kept with the erasure in the log.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; for programs.")] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Until the recommender knows of it; else exit code 1.")
    ] = False,
    tenant: Annotated[str, typer.Option(help="Whose users they are.")] = "default",
    timeout_s: Annotated[float, typer.Option(min=1, help="Seconds to wait, for each.")] = 30.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array.")] = False,
) -> None:
    """Erase everything known of users, and print the receipts. There is no way back.

    A receipt means that the erasure is durable; the stream applies it within moments.
    """
    tenant = checked_tenant(tenant)
    users = list(dict.fromkeys(checked_id(user_id, "USER") for user_id in user_ids))
    if not yes and not _agreed(users, tenant):
        typer.echo("nothing was erased", err=True)
        raise typer.Exit(1)
    receipts: list[Receipt] = []
    applied: list[bool] = []
    try:
        with Console(stderr=True).status(f"erasing {len(users):,} users"):
            asyncio.run(_erase(users, tenant, reason, timeout_s, receipts))
            if wait:
                asyncio.run(_wait(receipts, timeout_s, applied))
    finally:  # what was erased before an error stays so
        _print(receipts, applied, as_json)
    if wait and not all(applied):
        n_open = applied.count(False)
        raise FreshetError(
            f"{n_open:,} of {len(receipts):,} were not applied within {timeout_s:g} s; they are "
            "durable and will be: does the stream run? see `freshet status`"
        )


def _agreed(users: Sequence[str], tenant: str) -> bool:
    if not sys.stdin.isatty():
        raise InvalidInput("there is no terminal to ask on; say --yes to erase without a question")
    named = ", ".join(users[:N_NAMED]) + (", ..." if len(users) > N_NAMED else "")
    what = f"Erase everything known of {named} ({len(users):,} in all, tenant {tenant})?"
    return typer.confirm(f"{what} There is no way back.", err=True)


async def _erase(
    users: Sequence[str], tenant: str, reason: str, timeout_s: float, receipts: list[Receipt]
) -> None:
    async with GatewayClient(Endpoints.load().gateway, timeout_s=timeout_s) as gateway:
        for user_id in users:
            receipts.append(await gateway.erase(tenant, user_id, reason))


async def _wait(receipts: Sequence[Receipt], timeout_s: float, applied: list[bool]) -> None:
    """Ask for feeds that include the erasures: by their receipts, since "not found" is also what
    is said of a user whose events are still on their way."""
    address = Endpoints.load().retrieval
    async with aio_channel(address) as channel:
        stub = RecommendServiceStub(channel)
        for receipt in receipts:
            query = FeedQuery(
                tenant=receipt.tenant, user_id=receipt.user_id, n=1, scenario=WAIT_SCENARIO
            )
            request = RecommendRequest(query=query, after=receipt)
            try:
                answer = await stub.Recommend(request, timeout=timeout_s)
            except grpc.aio.AioRpcError as error:
                raise from_rpc_error(error, f"the recommender at {address}") from error
            applied.append(answer.feed.includes_receipt)


def _print(receipts: Sequence[Receipt], applied: Sequence[bool], as_json: bool) -> None:
    padded = [*applied, *[None] * (len(receipts) - len(applied))]
    known = list(zip(receipts, padded, strict=True))
    if as_json:
        typer.echo(json.dumps([_record(receipt) | {"applied": done} for receipt, done in known]))
    elif receipts:
        table = Table("tenant", "user", "partition", "offset", "applied")
        for receipt, done in known:
            cells = (escape(str(cell)) for cell in _record(receipt).values())
            table.add_row(*cells, {True: "yes", False: "not yet", None: ""}[done])
        Console().print(table)


def _record(receipt: Receipt) -> dict[str, str | int]:
    return {
        "tenant": receipt.tenant,
        "user_id": receipt.user_id,
        "partition": receipt.partition,
        "offset": receipt.offset,
    }
