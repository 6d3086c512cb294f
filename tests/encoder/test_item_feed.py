import asyncio

import pytest

from encoder.item_feed import ItemFeed, newest_texts
from encoder.settings import EncoderSettings
from encoder.worker import Worker
from infra.kafka_follower import Record
from protos.errors import Overloaded
from protos.keys import text_digest
from protos.rec.v1.encoder_pb2 import RESULT_STATUS_NEED_ITEMS, RESULT_STATUS_OK
from protos.rec.v1.items_pb2 import Item
from tests.encoder.tiny import make_user, set_newest


def record(item_id, text, offset=0, key=None):
    value = Item(tenant="default", item_id=item_id, text=text).SerializeToString()
    return Record(0, offset, 0, key or f"default/{item_id}".encode(), value)


def key_of(item_id, text):
    return ("default", item_id, text_digest(text))


def test_an_item_has_the_text_of_its_newest_record():
    records = [record("a", "old"), record("b", "of b"), record("a", "new")]

    found = {named.key: named.text for named in newest_texts(records)}

    assert found == {key_of("a", "new"): "new", key_of("b", "of b"): "of b"}


def test_an_item_without_a_text_is_read_by_its_title():
    value = Item(item_id="a", title="Titanic").SerializeToString()

    (named,) = newest_texts([Record(0, 0, 0, b"default/a", value)])

    assert named.text == "Titanic"


@pytest.mark.parametrize(
    "bad",
    [
        Record(0, 0, 0, b"default/x", b"\xff\xff"),
        Record(0, 0, 0, b"default/x", None),
        record("x", "of another key", key=b"default/y"),
        record("x", ""),
    ],
)
def test_a_record_without_a_readable_text_is_left_out_alone(bad):
    found = list(newest_texts([record("a", "of a"), bad, record("b", "of b")]))

    assert [named.text for named in found] == ["of a", "of b"]


@pytest.fixture
async def worker(bundle):
    worker = Worker(bundle, EncoderSettings())
    await worker.warm_up()
    yield worker
    await worker.close()


async def status_with(worker, bundle, item_id, text):
    """The answer to a user whose newest item is this one."""
    state = make_user(bundle, 3).state
    set_newest(state, item_id, text_digest(text))
    (result,) = await worker.refresh([state], [], frozenset(), None)
    return result.status


async def take(worker, *records):
    """What the follower's thread does with a batch."""
    await asyncio.to_thread(ItemFeed(worker, "nowhere:1", "rec.items")._take, records)


async def test_what_the_topic_said_need_not_be_asked_for(worker, bundle):
    assert await status_with(worker, bundle, "new", "a film") == RESULT_STATUS_NEED_ITEMS

    await take(worker, record("new", "a film"))

    assert await status_with(worker, bundle, "new", "a film") == RESULT_STATUS_OK


async def test_a_session_reads_the_revision_that_the_topic_has_last(worker, bundle):
    first = bundle.catalogue.item_ids[0], bundle.catalogue.texts[0]
    name = ("default", first[0])

    before = (await worker.newest_items([name]))[name]
    await take(worker, record(first[0], "another text"))
    changed = (await worker.newest_items([name]))[name]
    await take(worker, record(*first))
    back = (await worker.newest_items([name]))[name]

    assert changed is not before
    assert back is before


class Busy:
    """A worker whose queue is full the first times."""

    def __init__(self, n_full, error=Overloaded):
        self.n_full, self._error, self.learned = n_full, error, []

    async def learn(self, texts):
        if self.n_full:
            self.n_full -= 1
            raise self._error("full")
        self.learned += [named.text for named in texts]


async def test_texts_wait_while_the_queue_is_full():
    busy = Busy(n_full=2)

    await take(busy, record("a", "of a"))

    assert busy.learned == ["of a"]


async def test_texts_that_cannot_be_encoded_do_not_stop_the_others():
    broken = Busy(n_full=1, error=ValueError)

    await take(broken, record("a", "of a"))
    await take(broken, record("b", "of b"))

    assert broken.learned == ["of b"]
