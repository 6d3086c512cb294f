from protos.history import Head, Shape
from stream.store import (
    Published,
    head_key,
    head_watermark,
    pack_position,
    published_key,
    segment_key,
    unpack_position,
)


def test_published_round_trips():
    published = Published(2**40, "m-7", model_sequence=3, tier=2, n_events=9)

    assert Published.from_bytes(published.to_bytes()) == published


def test_watermark_is_read_without_the_rest_of_the_head():
    head = Head.empty(Shape())
    head.watermark = 2**33 + 5

    assert head_watermark(head.to_bytes()) == 2**33 + 5


def test_position_round_trips():
    assert unpack_position(pack_position(2**50)) == 2**50


def test_keys_of_one_kind_never_meet_those_of_another():
    user, longer = b"t/u", b"t/u\x00\x00\x00\x01"
    keys = [
        head_key(user),
        published_key(user),
        segment_key(user, 1),
        segment_key(user, 2),
        head_key(longer),
        segment_key(longer, 1),
        b"o",
        b"__faust\0offset__",
    ]

    assert len(set(keys)) == len(keys)


def test_segments_of_a_user_sort_by_index():
    keys = [segment_key(b"t/u", index) for index in (0, 1, 255, 256, 70_000)]

    assert keys == sorted(keys)


def test_a_user_is_owed_a_refresh_after_a_new_record_or_a_new_model():
    published = Published(10, "m-1", tier=2)

    assert published.is_current(10, "m-1")
    assert not published.is_current(11, "m-1")
    assert not published.is_current(10, "m-2")
    assert Published(10).is_current(10, "m-2")
