import pytest

from protos.keys import compose_key, item_hash
from protos.rec.v1.items_pb2 import Embedding, Item, ItemCodes, ItemVector
from stream.catalogue import Catalogue

BOOK = 7


def vector(item_id, *, codes=b"abcd", hashed=None, model="m-1", text="text"):
    return ItemVector(
        item=Item(tenant="t", item_id=item_id, text=text, categories=["c"]),
        item_hash=item_hash("t", item_id) if hashed is None else hashed,
        text_digest=5,
        embeddings=[Embedding(model_version=model)],
        codes=[ItemCodes(codebook_version=f"{BOOK:016x}", codes=codes)],
    )


class World:
    def __init__(self):
        self.n_ambiguous = 0
        self.catalogue = Catalogue(4, self.count)
        self.offset = 0

    def count(self):
        self.n_ambiguous += 1

    def apply(self, item_id, value, offset=None):
        self.offset += 1
        key = compose_key("t", item_id)
        value = None if value is None else value.SerializeToString()
        self.catalogue.apply(key, value, 0, self.offset if offset is None else offset)

    def codes(self, short_hash, book=BOOK):
        return self.catalogue.codes_of(book)(short_hash)


@pytest.fixture
def world():
    return World()


def test_codes_are_found_by_the_low_half_of_the_hash(world):
    world.apply("a", vector("a"))

    assert world.codes(item_hash("t", "a") & 0xFFFFFFFF) == b"abcd"


def test_codes_of_another_codebook_or_length_are_not_used(world):
    world.apply("a", vector("a", hashed=1))
    world.apply("b", vector("b", hashed=2, codes=b"abcde"))

    assert world.codes(1, book=8) is None
    assert world.codes(2) is None


def test_shared_hash_is_ambiguous_until_one_of_the_two_is_deleted(world):
    world.apply("a", vector("a", hashed=9, codes=b"aaaa"))
    world.apply("b", vector("b", hashed=9 + 2**32, codes=b"bbbb"))
    assert world.codes(9) is None
    assert world.n_ambiguous == 1

    world.apply("a", None)

    assert world.codes(9) == b"bbbb"
    world.apply("b", None)
    assert world.codes(9) is None


def test_item_that_comes_again_is_not_ambiguous_with_itself(world):
    world.apply("a", vector("a", hashed=9))
    world.apply("a", vector("a", hashed=9, text="revised"))

    assert world.codes(9) == b"abcd"
    assert world.catalogue.get(b"t/a").text == "revised"
    assert len(world.catalogue) == 1


def test_record_that_is_older_than_what_is_known_changes_nothing(world):
    world.apply("a", vector("a", text="new"), offset=10)
    world.apply("a", vector("a", text="old"), offset=9)

    assert world.catalogue.get(b"t/a").text == "new"


def test_items_that_lack_a_model_are_counted_by_partition(world):
    world.apply("a", vector("a", hashed=1))
    world.apply("b", vector("b", hashed=2, model="m-2"))
    assert world.catalogue.n_lacking("m-2", 0) == 1
    assert world.catalogue.n_lacking("m-2", 1) == 0

    world.apply("a", vector("a", hashed=1, model="m-2"))

    assert world.catalogue.n_lacking("m-2", 0) == 0
