"""The catalogue for one model: what rec.item-vectors has, and what that model has not coded yet.

The serving model lacks nothing, or little. Another one, asked what it would have made of a history,
codes and embeds the whole catalogue first; nothing of that is published.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import numpy as np
from google.protobuf.message import DecodeError

from protos.keys import item_text, split_key
from protos.rec.v1.encoder_pb2 import EncodeItemsResponse, ItemText
from protos.rec.v1.items_pb2 import Embedding, Item, ItemVector
from protos.vectors import Floats, embedding_vector
from stream.catalogue import Catalogue
from stream.encoder_client import Model

BATCH = 256


class ItemEncoder(Protocol):
    async def encode_items(self, items: Sequence[ItemText]) -> EncodeItemsResponse: ...


class VectorRecord(Protocol):
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...


class PastItems:
    """One tenant's items, all in memory: 1 KB an item."""

    def __init__(self, records: Iterable[VectorRecord], tenant: str) -> None:
        self._vectors: dict[bytes, ItemVector] = {}
        for record in records:
            key = record.key or b""
            self._vectors.pop(key, None)
            if record.value is not None and split_key(key)[0] == tenant:
                self._vectors[key] = _readable(record.value)

    def __len__(self) -> int:
        return len(self._vectors)

    def item(self, key: bytes) -> Item | None:
        found = self._vectors.get(key)
        return found.item if found is not None else None

    def lacking(self, model: Model) -> list[bytes]:
        """Return the keys that the model has no embedding of, or its codebook no codes."""
        return [
            key
            for key, vector in self._vectors.items()
            if _embedding(vector, model) is None
            or all(codes.codebook_version != model.codebook_version for codes in vector.codes)
        ]

    async def fill(
        self, encoder: ItemEncoder, model: Model, on_items: Callable[[int], None]
    ) -> None:
        """Encode what the model lacks; items it refuses stay without a vector."""
        keys = self.lacking(model)
        for start in range(0, len(keys), BATCH):
            some = keys[start : start + BATCH]
            texts = [_text(self._vectors[key].item) for key in some]
            response = await encoder.encode_items(texts)
            for key, encoded in zip(some, response.items, strict=True):
                if not encoded.reason:
                    self._vectors[key].embeddings.append(encoded.embedding)
                    self._vectors[key].codes.append(encoded.codes)
            on_items(len(some))

    def catalogue(self, n_levels: int) -> Catalogue:
        """Return the codes and texts, as the worker looks them up."""
        catalogue = Catalogue(n_levels, lambda: None)
        for number, (key, vector) in enumerate(self._vectors.items()):
            catalogue.apply(key, vector.SerializeToString(), 0, number)
        return catalogue

    def nearest(self, queries: Floats, model: Model, n: int) -> list[tuple[bytes, Embedding]]:
        """Return the n items with the greatest score (largest dot product over the queries), by
        exact search, best first, with their embeddings.

        Args:
            queries: (K, D)
        """
        found = [(key, _embedding(vector, model)) for key, vector in self._vectors.items()]
        known = [(key, embedding) for key, embedding in found if embedding is not None]
        if not known:
            return []
        matrix: Floats = np.stack([embedding_vector(embedding) for _, embedding in known])
        scores = (matrix @ queries.T).max(axis=1)
        best = np.argsort(-scores, kind="stable")[:n]
        return [known[row] for row in best.tolist()]


def _readable(value: bytes) -> ItemVector:
    try:
        return ItemVector.FromString(value)
    except DecodeError:
        return ItemVector()


def _embedding(vector: ItemVector, model: Model) -> Embedding | None:
    versions = {embedding.model_version: embedding for embedding in vector.embeddings}
    return versions.get(model.model_version)


def _text(item: Item) -> ItemText:
    text = item_text(item.title, item.text)
    return ItemText(tenant=item.tenant, item_id=item.item_id, text=text)
