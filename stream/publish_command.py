"""`freshet publish`: one event into Kafka, by the producer SDK."""

import json
import logging
from typing import Annotated

import typer
from google.protobuf.json_format import MessageToDict
from rich.console import Console

from infra.endpoints import Endpoints
from infra.settings import SharedSettings
from stream.kafka_writer import WriterOptions
from stream.producer import Producer


def publish(
    user_id: Annotated[str, typer.Argument(metavar="USER")],
    item_id: Annotated[str, typer.Argument(metavar="ITEM")],
    action: Annotated[str, typer.Option(help="A declared action: click, like, ...")] = "click",
    tenant: Annotated[str, typer.Option(help="Whose user it is.")] = "default",
    event_id: Annotated[str, typer.Option(help="Makes repeating this command harmless.")] = "",
    timeout_s: Annotated[float, typer.Option(min=1, help="Seconds to wait for Kafka.")] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Publish one event of a user, wait until it is durable, and print its receipt."""
    # Errors reach the user as ours; the client's own words on the way there would only repeat them.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    address, prefix = Endpoints.load().kafka_bootstrap, SharedSettings().topic_prefix
    options = WriterOptions(timeout_s=timeout_s, linger_ms=0, client_id="freshet-publish")
    with (
        Console(stderr=True).status(f"publishing to {address}"),
        Producer(address, topic_prefix=prefix, options=options) as producer,
    ):
        receipt = producer.publish(
            user_id, item_id=item_id, action=action, event_id=event_id, tenant=tenant
        )
    if as_json:
        # Not by json_format alone: it leaves out zeros, and writes the offset as text.
        plain = MessageToDict(receipt, preserving_proto_field_name=True)
        print(json.dumps(plain | {"partition": receipt.partition, "offset": receipt.offset}))
        return
    print(
        f"durable: user {user_id} of tenant {receipt.tenant}, "
        f"partition {receipt.partition}, offset {receipt.offset}"
    )
