from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.kafka_topics import user_partition
from protos.errors import FreshetError, InvalidInput, UnknownUser
from protos.rec.v1.encoder_pb2 import (
    RESULT_STATUS_INVALID,
    RESULT_STATUS_NEED_BLOCKS,
    RESULT_STATUS_OK,
    EncodedItem,
    EncodeItemsResponse,
    RefreshResponse,
    UserResult,
)
from protos.rec.v1.events_pb2 import Erasure, EventBatch
from protos.rec.v1.interests_pb2 import Interests
from protos.rec.v1.items_pb2 import Dtype, Embedding, Item, ItemCodes, ItemVector
from protos.segments import split_digests
from stream.bench.oracle import replay
from stream.catalogue import Catalogue
from stream.encoder_client import Model
from stream.past import fold_past, interests_of
from stream.past_items import PastItems
from stream.user_command import Point, parse_point
from tests.stream.log_world import N_PARTITIONS, Log, batch, event

HOME = user_partition("default", "ann", N_PARTITIONS)
MODEL = Model("m-1", f"{7:016x}", 7, 1, n_blocks=2, block_depth=2)


def past_of(log, until=None, user="ann"):
    return fold_past(log.records[HOME][:until], HOME, N_PARTITIONS, "default", user)


class FakeEncoder:
    """Wants blocks in full once, then answers."""

    def __init__(self, status=RESULT_STATUS_OK):
        self.requests, self.status = [], status

    async def refresh(self, request):
        self.requests.append(request)
        (user,) = request.users
        if len(self.requests) == 1 and user.block_digests:
            digests = split_digests(user.block_digests)
            lacking = UserResult(status=RESULT_STATUS_NEED_BLOCKS, need_blocks=digests)
            return RefreshResponse(results=[lacking])
        interests = Interests(model_version=MODEL.model_version)
        done = UserResult(status=self.status, interests=interests, reason="odd")
        return RefreshResponse(results=[done])

    async def encode_items(self, items):
        self.requests.append(items)
        embedding = Embedding(
            model_version="m-1", dtype=Dtype.DTYPE_F32, dim=1, vector=b"\0\0\x80\x3f"
        )
        codes = ItemCodes(codebook_version=MODEL.codebook_version, codes=b"1234")
        encoded = [
            EncodedItem(item_id=i.item_id, embedding=embedding, codes=codes)
            if i.text
            else EncodedItem(item_id=i.item_id, reason="no text")
            for i in items
        ]
        return EncodeItemsResponse(items=encoded)


def test_history_ends_where_it_is_told_to():
    log = Log()
    for item in "abc":
        log.write(batch(event(item)))

    assert [one.event.item_id for one in past_of(log, 2).events] == ["a", "b"]
    assert past_of(log, 2).user.head.watermark == 1
    assert past_of(log).user.head.n_events == 3


def test_before_an_erasure_the_user_is_still_there():
    log = Log()
    log.write(batch(event("a")))
    log.write(EventBatch(user_id="ann", erase=Erasure()))

    assert [one.event.item_id for one in past_of(log, 1).events] == ["a"]
    assert not past_of(log).events
    assert past_of(log).n_erasures == 1


def test_json_records_count_whatever_their_letters_are_escaped_as():
    log = Log()
    value = rb'{"user_id": "\u0061nn", "events": [{"item_id": "i", "action": "click", '
    value += b'"event_time_ms": 5000}]}'
    log.write(batch(event("a")))
    log.records[HOME][0].value = value
    log.records[HOME][0].headers = [("content-type", b"application/json")]

    assert past_of(log).user.head.n_events == 1


EVENTS = st.builds(
    event,
    st.sampled_from(["a", "b", ""]),
    event_id=st.sampled_from(["", "1", "2", "3"]),
    event_time_ms=st.integers(-1, 20_000),
)
RECORDS = st.one_of(
    st.builds(
        lambda events, user: batch(*events, user=user),
        st.lists(EVENTS, max_size=3),
        st.sampled_from(["ann", "ann2"]),
    ),
    st.just(EventBatch(user_id="ann", erase=Erasure())),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(RECORDS, max_size=25), st.data())
def test_at_any_record_the_history_is_the_oracles(records, data):
    log = Log()
    for number, record in enumerate(records):
        log.write(record, timestamp=1_000 * number)
    until = data.draw(st.integers(0, len(log.records[HOME])))

    past = past_of(log, until)

    expected = replay(log.records[HOME][:until]).get(("default", "ann"))
    found = [(p.event.item_id, p.event.event_time_ms, p.event.action) for p in past.events]
    assert found == (expected.items if expected else [])
    assert past.user.head.watermark == (expected.watermark if expected else -1)


async def test_the_encoder_is_asked_with_the_whole_state():
    log, encoder = Log(), FakeEncoder()
    for number in range(300):
        log.write(batch(event(f"i{number}", event_time_ms=1 + number)))

    state = await interests_of(past_of(log), encoder, MODEL, Catalogue(4, lambda: None))

    assert (state.n_events, state.n_closed_segments, state.encoded_offset) == (300, 2, 299)
    assert state.interests.model_version == "m-1"
    (user,) = encoder.requests[-1].users
    assert [len(block.segment) > 0 for block in user.blocks] == [True, True]
    assert user.recent_item_ids[-1] == "i299"
    assert len(past_of(log).seen()) == 2


async def test_a_refusal_of_the_encoder_is_told():
    log = Log()
    log.write(batch(event("a")))
    refusing = FakeEncoder(RESULT_STATUS_INVALID)

    with pytest.raises(FreshetError, match="refused the state: odd"):
        await interests_of(past_of(log), refusing, MODEL, Catalogue(4, lambda: None))


async def test_a_user_without_events_has_no_interests():
    with pytest.raises(UnknownUser):
        await interests_of(past_of(Log()), FakeEncoder(), MODEL, Catalogue(4, lambda: None))


def vector(item_id, *, text="text", model="m-1", tenant="default"):
    made = ItemVector(item=Item(tenant=tenant, item_id=item_id, text=text))
    if model:
        made.embeddings.add(model_version=model, dtype=Dtype.DTYPE_F32, dim=1, vector=b"\0\0\0\x3f")
        made.codes.add(codebook_version=MODEL.codebook_version, codes=b"abcd")
    return SimpleNamespace(key=f"{tenant}/{item_id}".encode(), value=made.SerializeToString())


async def test_items_that_a_model_lacks_are_encoded_for_it_alone():
    records = [vector("known"), vector("new", model="m-0"), vector("mute", text="", model="")]
    items, encoder = PastItems(records, "default"), FakeEncoder()

    await items.fill(encoder, MODEL, lambda n: None)

    assert [item.item_id for item in encoder.requests[0]] == ["new", "mute"]
    assert items.lacking(MODEL) == [b"default/mute"]
    catalogue = items.catalogue(4)
    assert catalogue.get(b"default/new").codes[0] == (7, b"abcd")


async def test_the_newest_record_of_an_item_counts_and_tenants_stay_apart():
    gone = SimpleNamespace(key=b"default/gone", value=None)
    records = [vector("gone"), gone, vector("theirs", tenant="shop"), vector("ours")]

    items = PastItems(records, "default")

    assert len(items) == 1
    assert items.item(b"default/ours").item_id == "ours"


@pytest.mark.parametrize(
    ("text", "point"),
    [
        (None, Point()),
        ("17", Point(offset=17)),
        ("1970-01-01T00:00:02+00:00", Point(moment_ms=2_000)),
        ("1970-01-01 00:00:02", Point(moment_ms=2_000)),
    ],
)
def test_a_point_is_an_offset_or_a_moment(text, point):
    assert parse_point(text) == point


def test_another_point_is_refused():
    with pytest.raises(InvalidInput, match="neither an offset nor an ISO moment"):
        parse_point("yesterday")
