"""One user whose events come one by one, from a real store to a real encoder and back."""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from rocksdict import Options, Rdict

from infra.rocks import batch_of, items_of
from infra.settings import SharedSettings
from protos.errors import FreshetError, NotReady
from protos.history import FoldEvent, Shape, fold
from protos.keys import compose_key, item_hash, item_text
from protos.rec.v1.encoder_pb2 import RESULT_STATUS_OK, UserState
from protos.rec.v1.interests_pb2 import TIER_REFINED
from protos.segments import split_digests
from stream.bench.event_log import encode_items, make_items
from stream.blocks import BlockStore
from stream.catalogue import Catalogue
from stream.encoder_client import EncoderClient, Model
from stream.exchange import Exchange
from stream.metrics import WorkerMetrics
from stream.partition import Partition
from stream.publishing import keep_blocks
from stream.states import cut_state, send_blocks
from stream.store import N_KEPT_SEGMENTS

TENANT = "default"
GAP_MS = 60_000
N_ITEMS = 2_000
N_CACHED = 1_000


def trained_bundle() -> Path:
    """Return the bundle to measure. Raises NotReady when there is none."""
    bundle = SharedSettings().state / "bundle"
    if not bundle.exists():
        raise NotReady(f"there is no bundle in {bundle}; run `freshet train ml-100k` first")
    return bundle


def compiled_folder() -> Path:
    """Return where passes that were compiled for a benchmark are kept for the next."""
    return SharedSettings().state / "encoder" / "compiled"


class Disk:
    """A RocksDB of its own (a `stream.partition.Disk`)."""

    def __init__(self, folder: Path) -> None:
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        self._db = Rdict(str(folder), options=options)

    def get(self, key: bytes) -> bytes | None:
        value: bytes | None = self._db.get(key)
        return value

    def write(self, changes: Mapping[bytes, bytes | None], changelog_offset: int) -> None:
        self._db.write(batch_of(changes))

    def items(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        return items_of(self._db, prefix)

    def close(self) -> None:
        self._db.close()


async def make_reader(folder: Path, addresses: Sequence[str]) -> tuple["Reader", dict[str, str]]:
    """Return histories of made-up items, which these encoders of one model then know, and the
    items' texts.

    Args:
        folder: of the store, and of the blocks of each way.
    """
    client = EncoderClient(addresses[0], Shape())
    model = await client.model()
    await client.close()
    items = make_items(N_ITEMS)
    encoded = [await asyncio.to_thread(encode_items, items, address) for address in addresses]
    catalogue = Catalogue(Shape().n_levels, lambda: None)
    for offset, (key, value) in enumerate(encoded[0]):
        catalogue.apply(key, value, 0, offset)
    texts = {item.item_id: item_text(item.title, item.text) for item in items}
    return Reader(folder, catalogue, model, list(texts)), texts


class Reader:
    """Histories in a store, each event of which can be refreshed and timed."""

    def __init__(
        self, folder: Path, catalogue: Catalogue, model: Model, item_ids: Sequence[str]
    ) -> None:
        self._disk = Disk(folder / "histories")
        self._partition = Partition(0, self._disk, Shape(), n_cached=N_CACHED)
        self._blocks_folder = folder
        self._catalogue, self._model, self._item_ids = catalogue, model, item_ids
        self._rng = np.random.default_rng(0)
        self._offset = 0

    def grow(self, user_id: str, n_events: int) -> None:
        """Give a user events, and make them durable."""
        key = compose_key(TENANT, user_id)
        for begin in range(0, n_events, 500):
            user = self._partition.user(key)
            first = user.head.n_events
            events = [self._event(first + n) for n in range(min(500, n_events - begin))]
            self._offset += 1
            folded = fold(
                user.head,
                events,
                offset=self._offset,
                accepted_ms=1,
                codes_of=self._catalogue.codes_of(self._model.codebook),
                codebook_version=self._model.codebook,
            )
            for index, segment in folded.closed:
                self._partition.put_segment(key, index, segment)
                if index >= N_KEPT_SEGMENTS:
                    self._partition.delete_segment(key, index - N_KEPT_SEGMENTS)
            self._partition.changed(user)
            self._partition.write(self._partition.take_changes(), self._offset)

    def _event(self, number: int) -> FoldEvent:
        item_id = str(self._rng.choice(self._item_ids))
        return FoldEvent(
            event_id=f"e{number}",
            event_hash=int(self._rng.integers(2**63)),
            item_id=item_id,
            item_hash=item_hash(TENANT, item_id) & 0xFFFFFFFF,
            action=3,
            event_time_ms=1 + number * GAP_MS,
        )

    def state(self, user_id: str) -> UserState:
        """Return what an encoder is asked for a user; blocks by name."""
        user = self._partition.user(compose_key(TENANT, user_id))
        return cut_state(self._partition, user, self._model, self._catalogue, TIER_REFINED).state

    def way_to(self, name: str, encoder: EncoderClient, *, by_blocks: bool) -> "Way":
        """Return a way of refreshing users, with blocks of its own."""
        blocks = BlockStore(self._blocks_folder / name)
        return Way(self._partition, self._catalogue, self._model, encoder, blocks, by_blocks)

    def close(self) -> None:
        self._disk.close()


class Way:
    """One encoder, and what it is sent."""

    def __init__(
        self,
        partition: Partition,
        catalogue: Catalogue,
        model: Model,
        encoder: EncoderClient,
        blocks: BlockStore,
        by_blocks: bool,
    ) -> None:
        """
        Args:
            by_blocks: name closed segments by digest, as the worker does; else send them whole.
        """
        self._partition, self._catalogue, self._model = partition, catalogue, model
        self._blocks, self._by_blocks = blocks, by_blocks
        self._exchange = Exchange(
            encoder,
            catalogue,
            lambda key, index, digest: blocks.get(*key, index, digest),
            _METRICS,
        )

    async def refresh(self, user_id: str) -> float:
        """Return the seconds from the store to the checked answer, its blocks kept."""
        start = time.perf_counter()
        key = (0, compose_key(TENANT, user_id))
        user = self._partition.user(key[1])
        cut = cut_state(self._partition, user, self._model, self._catalogue, TIER_REFINED)
        if not self._by_blocks:
            names = cut.block_names.values()
            send_blocks(cut, names, self._model, lambda index, digest: None)
        results = [
            result
            async for answers in self._exchange.answers({key: cut}, self._model, lambda *_: True)
            for _, _, result in answers
        ]
        (result,) = results
        if result.status != RESULT_STATUS_OK:
            raise FreshetError(f"the encoder refused a user: {result.reason}")
        if self._by_blocks:
            keep_blocks(self._blocks, cut, result)
        return time.perf_counter() - start

    def fill(self, state: UserState) -> None:
        """Put the memory of all blocks into a state."""
        key = compose_key(state.tenant, state.user_id)
        names = split_digests(state.block_digests)
        for index, name in enumerate(names, state.n_closed_segments - len(names)):
            state.blocks.add(digest=name, memory=self._blocks.get(0, key, index, name) or b"")

    def close(self) -> None:
        self._blocks.close()


_METRICS = WorkerMetrics()
