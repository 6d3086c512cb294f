import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.errors import VersionMismatch
from protos.history import FoldEvent, Head, Shape, erase, fold, quantise_gap
from protos.keys import event_hash, short_item_hash
from protos.segments import exact_part, segment_columns

SHAPE = Shape(segment_size=4, n_levels=2, recent_size=3)
CODES = b"\1\2"


def event(number: int, *, item="a", time_ms=1000, action=2) -> FoldEvent:
    event_id = f"e{number}"
    hashes = event_hash(event_id), short_item_hash("default", item)
    return FoldEvent(event_id, hashes[0], item, hashes[1], action, time_ms)


def apply(head: Head, *events: FoldEvent, offset: int, codes=CODES):
    return fold(
        head, events, offset=offset, accepted_ms=5000 + offset,
        codes_of=lambda _: codes, codebook_version=9,
    )  # fmt: skip


def test_a_record_at_or_below_the_watermark_changes_nothing():
    head = Head.empty(SHAPE)
    apply(head, event(1), offset=5)
    before = head.to_bytes()

    again = apply(head, event(2), offset=5)
    older = apply(head, event(3), offset=4)

    assert not again.is_new
    assert not older.is_new
    assert head.to_bytes() == before


def test_a_retry_with_the_same_event_id_counts_once():
    head = Head.empty(SHAPE)
    apply(head, event(1), offset=5)

    folded = apply(head, event(1), event(2), offset=6)

    assert (len(folded.applied), folded.n_duplicates) == (1, 1)
    assert (head.n_events, head.watermark) == (2, 6)


def test_only_the_newest_64_event_ids_are_remembered():
    head = Head.empty(SHAPE)
    apply(head, *(event(number) for number in range(65)), offset=1)

    forgotten = apply(head, event(0), offset=2)
    remembered = apply(head, event(64), offset=3)

    assert (len(forgotten.applied), len(remembered.applied)) == (1, 0)


def test_a_record_without_events_moves_the_watermark():
    head = Head.empty(SHAPE)

    folded = apply(head, offset=7)

    assert folded.is_new
    assert (head.watermark, head.n_events, head.last_accepted_ms) == (7, 0, 0)


def test_the_segment_closes_with_its_last_event():
    head = Head.empty(SHAPE)

    closed = [apply(head, event(n), offset=n).closed for n in range(5)]

    assert [len(c) for c in closed] == [0, 0, 0, 1, 0]
    ((index, segment),) = closed[3]
    assert (index, len(segment), len(head.open), head.n_closed) == (0, 4, 1, 1)


def test_one_record_may_close_several_segments():
    head = Head.empty(SHAPE)

    folded = apply(head, *(event(n) for n in range(9)), offset=1)

    assert [index for index, _ in folded.closed] == [0, 1]
    assert len(head.open) == 1


def test_a_late_event_has_gap_zero_and_is_counted():
    head = Head.empty(SHAPE)
    apply(head, event(1, time_ms=10_000), offset=1)

    folded = apply(head, event(2, time_ms=4_000), event(3, time_ms=11_000), offset=2)

    assert (folded.n_late, head.n_late, head.last_event_time_ms) == (1, 1, 11_000)
    gaps = segment_columns(head.open.to_bytes()).gaps.tolist()
    assert gaps == [0, 0, round(2048 * math.log2(1 + 1))]


@pytest.mark.parametrize(
    ("gap_ms", "code"),
    [(-1, 0), (0, 0), (1000, 2048), (3000, 4096), (2**62, 0xFFFF)],
)
def test_gaps_are_logarithmic_in_seconds(gap_ms, code):
    assert quantise_gap(gap_ms) == code


def test_recent_items_are_the_newest_with_their_times_and_actions():
    head = Head.empty(SHAPE)
    apply(head, *(event(n, item=f"i{n}", time_ms=n, action=n) for n in range(1, 6)), offset=1)

    assert [(r.item_id, r.event_time_ms, r.action) for r in head.recent] == [
        ("i3", 3, 3), ("i4", 4, 4), ("i5", 5, 5),
    ]  # fmt: skip


def test_an_unknown_item_is_applied_without_codes():
    head = Head.empty(SHAPE)

    apply(head, event(1), offset=1, codes=None)

    assert (head.n_events, head.open.n_missing) == (1, 1)


def test_erasure_leaves_only_the_watermark_and_later_events_start_anew():
    head = Head.empty(SHAPE)
    apply(head, *(event(n) for n in range(6)), offset=3)

    assert erase(head, offset=4, accepted_ms=5_004)
    assert not erase(head, offset=4, accepted_ms=5_004)

    blank = replace(Head.empty(SHAPE), watermark=4, erased_ms=5_004)
    assert head.to_bytes() == blank.to_bytes()
    assert head.erased
    assert not apply(head, event(9, time_ms=6_000), offset=4).is_new
    assert len(apply(head, event(0, time_ms=6_000), offset=5).applied) == 1
    assert (head.erased, head.n_events) == (False, 1)


def test_events_from_before_an_erasure_never_count_again():
    head = Head.empty(SHAPE)
    erase(head, offset=4, accepted_ms=5_004)
    apply(head, event(1, time_ms=7_000), offset=5)

    folded = apply(head, event(2, time_ms=5_004), event(3, time_ms=5_005), offset=6)

    assert [e.event_id for e in folded.applied] == ["e3"]
    assert (folded.n_erased, folded.n_duplicates, head.watermark) == (1, 0, 6)


def test_another_format_is_refused():
    blob = b"\7" + Head.empty(SHAPE).to_bytes()[1:]

    with pytest.raises(VersionMismatch, match="head has format 7"):
        Head.from_bytes(blob)


rows = st.tuples(
    st.integers(0, 30),
    st.sampled_from(["a", "b/%", "\N{SNOWMAN}"]),
    st.integers(1, 2**40),
    st.integers(0, 255),
)
records = st.lists(st.one_of(st.just("erase"), st.lists(rows, max_size=6)), max_size=12)


def as_event(row) -> FoldEvent:
    number, item, time_ms, action = row
    return event(number, item=item, time_ms=time_ms, action=action)


def replay(head, record, offset):
    """Apply a batch or an erasure; return what it closed."""
    if record == "erase":
        erase(head, offset=offset, accepted_ms=5_000 + offset)
        return ()
    return apply(head, *map(as_event, record), offset=offset).closed


@given(records)
def test_a_head_survives_its_bytes_at_any_moment(records):
    kept, stored = Head.empty(SHAPE), Head.empty(SHAPE)
    for offset, record in enumerate(records):
        replay(kept, record, offset)
        replay(stored, record, offset)
        stored = Head.from_bytes(stored.to_bytes())

        assert stored == kept


@given(records, st.data())
def test_any_redelivery_gives_the_same_state(records, data):
    """A crash makes Kafka deliver again from any earlier offset, any number of times."""
    once, again = Head.empty(SHAPE), Head.empty(SHAPE)
    closed_once, closed_again = {}, {}
    for offset, record in enumerate(records):
        closed_once.update(replay(once, record, offset))
        for redelivered in range(data.draw(st.integers(0, offset)), offset + 1):
            closed_again.update(replay(again, records[redelivered], redelivered))

    assert again == once
    assert closed_again == closed_once


@given(st.lists(st.lists(rows, max_size=6), max_size=12), st.sets(st.integers(0, 11)))
def test_all_but_the_codes_is_the_same_whether_or_not_items_were_known(batches, unknown):
    known, blind = Head.empty(SHAPE), Head.empty(SHAPE)
    for offset, batch in enumerate(batches):
        events = [as_event(row) for row in batch]
        full = apply(known, *events, offset=offset)
        part = apply(blind, *events, offset=offset, codes=None if offset in unknown else CODES)
        for (i, one), (j, other) in zip(full.closed, part.closed, strict=True):
            assert i == j
            assert exact_part(one.to_bytes()) == exact_part(other.to_bytes())
    blind.open.fill_codes(lambda _: CODES)

    assert blind == known
