import pytest

from protos.errors import InvalidInput
from retrieval.pages import MAX_SHOWN, Page, Pages
from retrieval.queries import Query

QUERY = Query("default", "u", 5, excluded=frozenset({"x"}))


def test_the_next_page_excludes_what_was_shown_and_what_was_excluded():
    pages = Pages()
    token = pages.remember(Page("r1", QUERY, frozenset({"a"})))

    page = pages.find(token, "default", "u")

    assert page.next_query(3).excluded == {"x", "a"}
    assert page.next_query(3).n == 3


@pytest.mark.parametrize("owner", [("default", "other"), ("other", "u")])
def test_a_token_of_another_user_is_refused(owner):
    pages = Pages()
    token = pages.remember(Page("r1", QUERY, frozenset()))

    with pytest.raises(InvalidInput, match="begin again"):
        pages.find(token, *owner)


def test_a_forged_token_is_refused_in_the_same_words():
    with pytest.raises(InvalidInput, match="begin again"):
        Pages().find("forged", "default", "u")


def test_memory_is_bounded_and_the_oldest_page_goes_first():
    pages = Pages(max_bytes=3_000)
    first = pages.remember(Page("r0", QUERY, frozenset()))
    tokens = [pages.remember(Page(f"r{n}", QUERY, frozenset())) for n in range(1, 10)]

    assert pages.find(tokens[-1], "default", "u").recommendation_id == "r9"
    with pytest.raises(InvalidInput):
        pages.find(first, "default", "u")


def test_a_recommendation_that_has_shown_enough_ends():
    shown = frozenset(str(n) for n in range(MAX_SHOWN))

    assert Pages().remember(Page("r1", QUERY, shown)) == ""
