import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.errors import InvalidInput
from protos.keys import short_item_hash
from protos.rec.v1.recommend_pb2 import FeedQuery
from retrieval.pages import MAX_HIDDEN, PageTokens

QUERY = FeedQuery(user_id="u", n=5, filter="price < 5", exclude_item_ids=["x"])
TOKENS = PageTokens(b"a secret")


def short(*item_ids):
    return {short_item_hash("default", item_id) for item_id in item_ids}


def test_a_page_knows_the_question_what_it_excluded_and_what_was_shown():
    page = TOKENS.read(TOKENS.first("r1", QUERY, ["a"]), "default", "u")
    after = TOKENS.read(TOKENS.next(page, ["b"]), "default", "u")

    assert page.hidden == short("x", "a")
    assert after.hidden == short("x", "a", "b")
    assert after.recommendation_id == "r1"
    assert (after.query.filter, after.query.n) == ("price < 5", 5)
    assert not after.query.exclude_item_ids


def test_another_replica_and_a_restarted_one_read_it():
    token = TOKENS.first("r1", QUERY, ["a"])

    assert PageTokens(b"a secret").read(token, "default", "u").hidden == short("x", "a")


@pytest.mark.parametrize("owner", [("default", "other"), ("other", "u")])
def test_a_token_of_another_user_is_refused(owner):
    with pytest.raises(InvalidInput, match="begin again"):
        TOKENS.read(TOKENS.first("r1", QUERY, []), *owner)


def test_a_token_of_another_freshet_is_refused():
    with pytest.raises(InvalidInput, match="begin again"):
        PageTokens(b"another").read(TOKENS.first("r1", QUERY, []), "default", "u")


@given(st.one_of(st.text(), st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode())))
def test_what_was_made_up_is_refused_in_the_same_words(token):
    with pytest.raises(InvalidInput, match="begin again"):
        TOKENS.read(token, "default", "u")


@given(st.data())
def test_a_token_that_was_altered_anywhere_is_refused(data):
    raw = bytearray(base64.urlsafe_b64decode(TOKENS.first("r1", QUERY, ["a", "b"])))
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= data.draw(st.integers(1, 255))

    with pytest.raises(InvalidInput, match="begin again"):
        TOKENS.read(base64.urlsafe_b64encode(bytes(raw)).decode(), "default", "u")


def test_a_recommendation_that_has_shown_enough_ends():
    assert TOKENS.first("r1", QUERY, map(str, range(MAX_HIDDEN))) == ""


def test_a_tokens_size_is_bounded():
    token = TOKENS.first("r1", QUERY, map(str, range(MAX_HIDDEN - 2)))

    assert 0 < len(token) < 100_000
