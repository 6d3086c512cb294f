import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.errors import VersionMismatch
from protos.segments import Segment, block_digests, exact_part, segment_columns

CODES = {7: b"\1\2\3\4", 8: b"\5\6\7\10"}

events = st.lists(
    st.tuples(
        st.integers(0, 2**32 - 1),
        st.integers(0, 255),
        st.integers(0, 2**16 - 1),
        st.none() | st.binary(min_size=4, max_size=4),
    ),
    max_size=140,
)


def segment_of(rows, codebook_version=3) -> Segment:
    segment = Segment(4, first_event_time_ms=-5, codebook_version=codebook_version)
    segment.extend(*columns_of(rows))
    return segment


def columns_of(rows):
    return [[row[column] for row in rows] for column in range(4)]


@given(events, st.integers(0, 140))
def test_events_may_be_added_in_parts(rows, cut):
    segment = segment_of(rows[:cut])
    segment.extend(*columns_of(rows[cut:]))

    assert segment == segment_of(rows)


@given(events)
def test_bytes_round_trip(rows):
    segment = segment_of(rows)

    assert Segment.from_bytes(segment.to_bytes()) == segment


@given(events)
def test_columns_show_what_was_appended(rows):
    columns = segment_columns(segment_of(rows).to_bytes())

    assert columns.hashes.tolist() == [row[0] for row in rows]
    assert columns.actions.tolist() == [row[1] for row in rows]
    assert columns.gaps.tolist() == [row[2] for row in rows]
    assert columns.coded.tolist() == [row[3] is not None for row in rows]
    assert [bytes(codes) for codes in columns.codes] == [row[3] or bytes(4) for row in rows]


def test_a_closed_segment_costs_less_than_12_bytes_an_event():
    segment = segment_of([(1, 2, 3, b"\0\0\0\0")] * 128)

    assert len(segment.to_bytes()) / 128 < 12


@given(events, st.data())
def test_the_exact_part_does_not_depend_on_codes(rows, data):
    without = segment_of([(*row[:3], None) for row in rows], codebook_version=0)

    assert exact_part(segment_of(rows).to_bytes()) == exact_part(without.to_bytes())


def test_missing_codes_are_filled_where_the_item_is_known():
    segment = segment_of([(7, 0, 0, None), (9, 0, 0, None), (8, 0, 0, CODES[8])])

    n_filled = segment.fill_codes(CODES.get)

    assert (n_filled, segment.n_missing) == (1, 1)
    assert bytes(segment.codes) == CODES[7] + bytes(4) + CODES[8]


def test_another_codebook_makes_all_codes_missing():
    segment = segment_of([(7, 0, 0, CODES[7])], codebook_version=3)

    segment.use_codebook(3)
    assert segment.n_missing == 0

    segment.use_codebook(4)
    assert segment.n_missing == 1
    assert bytes(segment.codes) == bytes(4)


def test_another_format_is_refused_with_what_to_do():
    blob = bytearray(segment_of([]).to_bytes())
    blob[0] = 2

    with pytest.raises(VersionMismatch, match="upgrade this process"):
        Segment.from_bytes(bytes(blob))


@pytest.mark.parametrize("cut", [0, 5, 12, -1])
def test_bytes_of_a_wrong_length_are_refused(cut):
    blob = segment_of([(7, 0, 0, None)]).to_bytes()

    with pytest.raises(ValueError, match="bytes"):
        segment_columns(blob[:cut])


def test_a_digest_covers_the_model_the_segment_and_depth_segments_before_it():
    segments = [bytes([number]) for number in range(5)]
    digests = block_digests("m1", segments, depth=2)

    assert len(set(digests)) == 5
    assert set(digests).isdisjoint(block_digests("m2", segments, depth=2))
    # Dropping the two oldest renames only the two whose depth reached them.
    assert block_digests("m1", segments[1:], depth=2)[2:] == digests[3:]
    changed = [b"x", *segments[1:]]
    same = np.array(block_digests("m1", changed, depth=2)) == np.array(digests)
    assert same.tolist() == [False, False, False, True, True]
