"""Many items through the gateway: in batches that it takes, and what became of each."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from protos.errors import FreshetError
from protos.rec.v1.items_pb2 import Item, ItemResult
from stream.validity import MAX_ITEM_BYTES, MAX_ITEMS, item_refusal

MAX_BATCH_BYTES = 4 * 2**20
"""A quarter of what a server takes (infra/grpc_server.py); 16 of the largest items."""
N_SHOWN = 20


class Catalogue(Protocol):
    """Where items go (stream/gateway_client.py)."""

    async def upsert(self, tenant: str, items: Sequence[Item]) -> Sequence[ItemResult]: ...

    async def delete(self, tenant: str, item_ids: Sequence[str]) -> Sequence[ItemResult]: ...


@dataclass(slots=True)
class Outcome:
    n_done: int = 0
    """Durable."""
    n_refused: int = 0
    problems: list[tuple[str, str]] = field(default_factory=list)
    """(which, why) of the first ones refused."""

    def refuse(self, which: str, why: str, n: int = 1) -> None:
        self.n_refused += n
        if len(self.problems) < N_SHOWN:
            self.problems.append((which, why))

    def hear(self, results: Iterable[ItemResult]) -> None:
        """Count the gateway's answers."""
        for result in results:
            if result.accepted:
                self.n_done += 1
            else:
                self.refuse(f"item {result.item_id[:80]!r}", result.reason)


async def upsert_all(
    items: Iterable[Item],
    tenant: str,
    catalogue: Catalogue,
    outcome: Outcome,
    on_batch: Callable[[], None] = lambda: None,
) -> None:
    """Insert or replace items. Raises what the catalogue raises, saying how far it came.

    Args:
        outcome: kept up to date; `on_batch` hears of each change.
    """
    for batch in batches(items, tenant, outcome):
        with _saying(outcome):
            outcome.hear(await catalogue.upsert(tenant, batch))
        on_batch()


async def delete_all(
    item_ids: Sequence[str], tenant: str, catalogue: Catalogue, outcome: Outcome
) -> None:
    """Delete items. Raises as `upsert_all`."""
    for start in range(0, len(item_ids), MAX_ITEMS):
        with _saying(outcome):
            outcome.hear(await catalogue.delete(tenant, item_ids[start : start + MAX_ITEMS]))


@contextmanager
def _saying(outcome: Outcome) -> Iterator[None]:
    try:
        yield
    except FreshetError as error:
        if outcome.n_done:
            done = f"{outcome.n_done:,} are done; run the same command again, it repeats harmlessly"
            raise type(error)(f"{error} ({done})") from error
        raise


def batches(items: Iterable[Item], tenant: str, outcome: Outcome) -> Iterator[list[Item]]:
    """Group items into requests. One that no request could carry is refused here."""
    batch: list[Item] = []
    n_bytes = 0
    for item in items:
        size = item.ByteSize()
        if size > MAX_ITEM_BYTES:
            outcome.refuse(f"item {item.item_id[:80]!r}", item_refusal(item, tenant))
            continue
        if batch and (len(batch) == MAX_ITEMS or n_bytes + size > MAX_BATCH_BYTES):
            yield batch
            batch, n_bytes = [], 0
        batch.append(item)
        n_bytes += size
    if batch:
        yield batch
