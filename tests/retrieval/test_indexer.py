import threading

import pytest

from protos.errors import DependencyDown, FreshetError
from protos.keys import compose_key
from retrieval.indexer import Indexer
from retrieval.measures import REFUSED_RECORDS
from retrieval.milvus.client import Collection, MissingCollection, WrongDimension
from tests.retrieval.retrieval_world import item_vector, record, unit


class FakeWriter:
    """Collections in memory; each can be dropped, refuse an item, or be away."""

    def __init__(self):
        self.rows: dict[str, dict[bytes, str]] = {}
        self.known: dict[str, Collection] = {}
        self.n_down = 0
        self.poison = b""
        self._uid = 0

    def collections(self):
        self._answer()
        return list(self.known.values())

    def ensure(self, model_version, dim):
        self._answer()
        if model_version not in self.known:
            self._uid += 1
            self.known[model_version] = Collection(model_version, model_version, dim, self._uid)
            self.rows[model_version] = {}
        if self.known[model_version].dim != dim:
            raise WrongDimension("another length")
        return self.known[model_version]

    def upsert(self, collection, items):
        self._answer()
        if self.poison in items:
            raise FreshetError("Milvus refuses this batch")
        self._rows(collection).update({key: item.title for key, item in items.items()})

    def delete(self, collection, keys):
        self._answer()
        for key in keys:
            self._rows(collection).pop(key, None)

    def wipe(self):
        self.rows.clear()
        self.known.clear()

    def _rows(self, collection):
        if collection.name not in self.rows:
            raise MissingCollection(collection.name)
        return self.rows[collection.name]

    def _answer(self):
        if self.n_down > 0:
            self.n_down -= 1
            raise DependencyDown("Milvus is away")


class FakeFollower:
    def __init__(self):
        self.caught_up = threading.Event()

    def start(self):
        self.caught_up.set()

    def stop(self):
        pass


@pytest.fixture
def writer():
    return FakeWriter()


def indexer_on(writer, store):
    made = Indexer(writer, store, "items", lambda *_: FakeFollower())
    made.load_targets()
    return made


def put(item_id, offset, model="m1", vector=None):
    vector = unit(1, 0) if vector is None else vector
    key = compose_key("default", item_id)
    return record(key, item_vector(item_id, vector, model=model), offset)


def delete(item_id, offset):
    return record(compose_key("default", item_id), None, offset)


def titles(writer, model="m1"):
    return sorted(writer.rows[model].values())


def refused(what):
    return REFUSED_RECORDS.labels("items", what)._value.get()


def test_items_go_to_the_collection_of_their_model(writer, store):
    indexer_on(writer, store).handle([put("1", 0, "m1"), put("2", 1, "m2")])

    assert (titles(writer, "m1"), titles(writer, "m2")) == (["Title 1"], ["Title 2"])


def test_the_newest_of_a_batch_counts(writer, store):
    indexer = indexer_on(writer, store)

    indexer.handle(
        [put("1", 0), delete("1", 1), put("2", 2), put("3", 3), delete("3", 4), put("3", 5)]
    )

    assert titles(writer) == ["Title 2", "Title 3"]


def test_a_deletion_passes_to_every_collection(writer, store):
    indexer = indexer_on(writer, store)
    indexer.handle([put("1", 0, "m1"), put("1", 1, "m2")])

    indexer.handle([delete("1", 2)])

    assert (titles(writer, "m1"), titles(writer, "m2")) == ([], [])


def test_a_restart_goes_on_where_it_stopped(writer, store):
    indexer_on(writer, store).handle([put("1", 0), put("2", 1)])

    assert indexer_on(writer, store).start_at() == {0: 2}


def test_a_fresh_milvus_is_filled_from_the_beginning(writer, store):
    indexer_on(writer, store).handle([put("1", 0), put("2", 1)])
    writer.wipe()

    assert indexer_on(writer, store).start_at() == {}


def test_a_collection_made_anew_is_filled_from_the_beginning(writer, store):
    indexer_on(writer, store).handle([put("1", 0)])
    writer.wipe()
    writer.ensure("m1", 2)

    assert indexer_on(writer, store).start_at() == {}


def test_what_a_collection_has_already_is_not_written_again(writer, store):
    indexer_on(writer, store).handle([put("1", 0), put("2", 1)])
    again = indexer_on(writer, store)
    writer.rows["m1"].clear()

    again.handle([put("1", 0), put("2", 1), put("3", 2)])

    assert titles(writer) == ["Title 3"]


def test_a_collection_that_vanished_stops_the_follower(writer, store):
    indexer = indexer_on(writer, store)
    indexer.handle([put("1", 0)])
    writer.rows.clear()

    with pytest.raises(MissingCollection):
        indexer.handle([put("2", 1)])


def test_it_waits_while_milvus_is_away(writer, store):
    indexer = indexer_on(writer, store)
    writer.n_down = 2

    indexer.handle([put("1", 0)])

    assert titles(writer) == ["Title 1"]
    assert not indexer.is_waiting.is_set()


def test_an_item_that_milvus_refuses_is_left_out_alone(writer, store):
    indexer, before = indexer_on(writer, store), refused("milvus")
    writer.poison = compose_key("default", "2")

    indexer.handle([put("1", 0), put("2", 1), put("3", 2)])

    assert titles(writer) == ["Title 1", "Title 3"]
    assert refused("milvus") == before + 1


def test_a_vector_of_another_length_is_refused_and_counted(writer, store):
    indexer, before = indexer_on(writer, store), refused("dimension")

    indexer.handle([put("1", 0), put("2", 1, vector=unit(1, 0, 0)), put("3", 2)])

    assert titles(writer) == ["Title 1", "Title 3"]
    assert refused("dimension") == before + 1


def test_garbage_stops_nothing(writer, store):
    indexer = indexer_on(writer, store)

    indexer.handle([record(b"default/1", b"\xff\xff", 0), put("2", 1)])

    assert titles(writer) == ["Title 2"]


def test_it_is_ready_when_it_has_read_everything(writer, store):
    indexer = Indexer(writer, store, "items", lambda *_: FakeFollower())

    indexer.start()
    while not indexer.is_ready:
        pass
    indexer.stop()
