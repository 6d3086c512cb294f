"""The producer SDK for the catalogue: items into rec.items, from any Python program.

    with ItemPublisher("127.0.0.1:9092") as items:
        items.upsert([Item(item_id="50", title="Star Wars (1977)", categories=["Sci-Fi"])])

rec.items is compacted: the newest record of an item is the item, a null value deletes it. So
repeating a record changes nothing.
"""

from collections.abc import Iterable

from protos.errors import InvalidInput
from protos.keys import checked_tenant, compose_key
from protos.rec.v1.items_pb2 import Item
from stream.delivery import Client, Deadline, ItemDelivery
from stream.validity import item_id_refusal, item_refusal


class ItemPublisher(Client):
    """Publishes the catalogue. Thread-safe."""

    def upsert(
        self, items: Iterable[Item], *, tenant: str = "", timeout_s: float | None = None
    ) -> int:
        """Insert or replace items, wait until all are durable, and return how many.

        Raises:
            InvalidInput: an item is refused; those before it have been handed over.
            Overloaded, DependencyDown: as in Producer.publish.
        """
        sent = [self.upsert_nowait(item, tenant=tenant) for item in items]
        return self._wait_for(sent, timeout_s)

    def delete(
        self, item_ids: Iterable[str], *, tenant: str = "", timeout_s: float | None = None
    ) -> int:
        """Delete items; deleting an unknown one changes nothing. Returns and raises as `upsert`."""
        sent = [self.delete_nowait(item_id, tenant=tenant) for item_id in item_ids]
        return self._wait_for(sent, timeout_s)

    def upsert_nowait(
        self, item: Item, *, tenant: str = "", wait_s: float | None = None
    ) -> ItemDelivery:
        """Hand over one item. Raises InvalidInput, and Overloaded after `wait_s`."""
        tenant = checked_tenant(tenant)
        if reason := item_refusal(item, tenant):
            raise InvalidInput(f"item {item.item_id[:80]!r}: {reason}")
        own = Item()
        own.CopyFrom(item)
        own.tenant = tenant
        return self._send(tenant, item.item_id, own.SerializeToString(), wait_s)

    def delete_nowait(
        self, item_id: str, *, tenant: str = "", wait_s: float | None = None
    ) -> ItemDelivery:
        """Hand over one deletion. Raises InvalidInput, and Overloaded after `wait_s`."""
        if reason := item_id_refusal(item_id):
            raise InvalidInput(reason)
        return self._send(checked_tenant(tenant), item_id, None, wait_s)

    @property
    def _topic(self) -> str:
        return self._topics.items

    def _send(
        self, tenant: str, item_id: str, value: bytes | None, wait_s: float | None
    ) -> ItemDelivery:
        delivery = ItemDelivery()
        self._writer.submit(
            self._topic,
            compose_key(tenant, item_id),
            value,
            delivery.finish,
            wait_s=self._limit_s(wait_s),
        )
        return delivery

    def _wait_for(self, sent: list[ItemDelivery], timeout_s: float | None) -> int:
        deadline = Deadline(self._limit_s(timeout_s))
        for delivery in sent:
            deadline.wait(delivery)
        return len(sent)
