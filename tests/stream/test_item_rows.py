from hypothesis import given
from hypothesis import strategies as st

from protos.rec.v1.items_pb2 import AttributeValue, Item
from stream.item_rows import item_of, row_of

TEXTS = st.text(max_size=8)
VALUES = st.one_of(
    st.builds(AttributeValue, text=TEXTS),
    st.builds(AttributeValue, number=st.floats(allow_nan=False, allow_infinity=False)),
    st.builds(AttributeValue, flag=st.booleans()),
)
ITEMS = st.builds(
    Item,
    item_id=st.text(min_size=1, max_size=8),
    title=TEXTS,
    text=st.text(min_size=1, max_size=8),
    categories=st.lists(TEXTS, max_size=3),
    available=st.none() | st.booleans(),
    created_at_ms=st.integers(0, 2**50),
    popularity=st.floats(0, width=32, allow_infinity=False),
    attributes=st.dictionaries(TEXTS, VALUES, max_size=3),
)


@given(ITEMS)
def test_an_item_comes_back_from_its_row(item):
    assert item_of(row_of(item)) == item


def test_a_row_has_the_text_that_the_model_reads():
    assert row_of(Item(item_id="1", title="Alien"))["text"] == "Alien"


def test_what_json_cannot_say_is_left_out():
    attributes = {"a": AttributeValue(number=float("nan")), "b": AttributeValue()}

    assert row_of(Item(item_id="1", title="t", attributes=attributes))["attributes"] is None
