from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry

from infra.kafka_topics import Topics
from protos.errors import InvalidInput, Overloaded
from protos.keys import compose_key, text_digest
from protos.rec.v1.encoder_pb2 import EncodedItem, EncodeItemsResponse
from protos.rec.v1.items_pb2 import Embedding, Item, ItemCodes, ItemVector
from stream.catalogue import Catalogue
from stream.items import ItemEncoder
from stream.metrics import WorkerMetrics
from stream.outbox import Sent

BOOK = f"{7:016x}"


class Encoder:
    def __init__(self):
        self.model, self.failures, self.sizes = "m-1", [], []

    async def encode_items(self, items):
        self.sizes.append(len(items))
        if self.failures:
            raise self.failures.pop(0)
        if any(item.text == "evil" for item in items):
            raise InvalidInput("this text breaks the tokenizer")
        return EncodeItemsResponse(items=[self._encoded(item) for item in items])

    def _encoded(self, item):
        return EncodedItem(
            item_id=item.item_id,
            text_digest=text_digest(item.text),
            embedding=Embedding(model_version=self.model),
            codes=ItemCodes(codebook_version=BOOK, codes=item.text[:4].encode()),
        )


class Outbox:
    def __init__(self):
        self.records = []

    async def send(self, record):
        self.records.append(record)

        async def delivered():
            return Sent(0, len(self.records) - 1)

        return delivered()


class World:
    def __init__(self):
        self.encoder, self.outbox = Encoder(), Outbox()
        self.metrics = WorkerMetrics(CollectorRegistry())
        self.catalogue = Catalogue(4, lambda: None)
        self.items = ItemEncoder(
            encoder=self.encoder,
            catalogue=self.catalogue,
            outbox=self.outbox,
            topics=Topics("rec"),
            metrics=self.metrics,
            model_version=lambda: self.encoder.model,
            new_consumer=lambda: pytest.fail("not in this test"),
            new_reader=lambda: pytest.fail("not in this test"),
        )

    async def encode(self, *items):
        await self.items.encode([record(item) for item in items])

    def vectors(self):
        return {r.key.decode(): ItemVector.FromString(r.value) for r in self.outbox.records}

    def count(self, outcome):
        return self.metrics.items.labels(outcome)._value.get()


def record(item, offset=0):
    value = item.SerializeToString()
    key = compose_key(item.tenant or "default", item.item_id)
    return SimpleNamespace(key=key, value=value, partition=0, offset=offset)


@pytest.fixture
def world():
    return World()


async def test_title_is_read_where_there_is_no_text(world):
    await world.encode(Item(item_id="a", title="title"), Item(item_id="b", title="t", text="text"))

    digests = {key: v.text_digest for key, v in world.vectors().items()}
    assert digests == {"default/a": text_digest("title"), "default/b": text_digest("text")}


async def test_item_without_any_text_is_counted_and_has_no_vector(world):
    await world.encode(Item(item_id="a"), Item(item_id="b", title="t"))

    assert (list(world.vectors()), world.count("no_text")) == (["default/b"], 1)


async def test_newest_of_several_records_of_an_item_wins(world):
    await world.encode(Item(item_id="a", text="old"), Item(item_id="a", text="new"))

    assert [v.item.text for v in world.vectors().values()] == ["new"]
    assert world.encoder.sizes == [1]


async def test_tombstone_passes_through(world):
    gone = SimpleNamespace(key=b"default/a", value=None, partition=0, offset=0)

    await world.items.encode([gone])

    assert [(r.topic, r.key, r.value) for r in world.outbox.records] == [
        ("rec.item-vectors", b"default/a", None)
    ]


async def test_garbage_and_a_key_that_is_not_the_items_are_counted(world):
    await world.items.encode(
        [
            SimpleNamespace(key=b"default/a", value=b"\xff\xff", partition=0, offset=0),
            SimpleNamespace(
                key=b"default/b",
                value=Item(item_id="c", text="x").SerializeToString(),
                partition=0,
                offset=1,
            ),
        ]
    )

    assert (world.outbox.records, world.count("garbage")) == ([], 2)


async def test_item_that_breaks_a_batch_is_refused_alone(world):
    items = [Item(item_id=f"i{i}", text="evil" if i == 5 else "good") for i in range(16)]

    await world.encode(*items)

    assert len(world.vectors()) == 15
    assert "default/i5" not in world.vectors()
    assert world.count("refused") == 1


async def test_encoder_that_is_full_is_asked_again(world):
    world.encoder.failures = [Overloaded("full"), Overloaded("full")]

    await world.encode(Item(item_id="a", text="text"))

    assert len(world.vectors()) == 1


async def test_codes_of_an_item_never_change_within_a_codebook(world):
    await world.encode(Item(item_id="a", text="first text"))
    await world.encode(Item(item_id="a", text="second text"))

    vector = world.vectors()["default/a"]
    assert vector.text_digest == text_digest("second text")
    assert vector.codes[0].codes == b"firs"


async def test_new_model_adds_its_embedding_and_keeps_the_one_before(world):
    await world.encode(Item(item_id="a", text="text"), Item(item_id="b", text="other"))
    at_rest = [
        SimpleNamespace(key=r.key, value=r.value, partition=0, offset=i)
        for i, r in enumerate(world.outbox.records)
    ]
    for model in ("m-2", "m-3"):
        world.encoder.model = model
        await world.items.renew(at_rest, model)
        at_rest = [
            SimpleNamespace(key=r.key, value=r.value, partition=0, offset=i)
            for i, r in enumerate(world.outbox.records)
        ]

    models = [e.model_version for e in world.vectors()["default/a"].embeddings]
    assert models == ["m-2", "m-3"]
    assert world.encoder.sizes == [2, 2, 2], "what was superseded is not encoded again"
