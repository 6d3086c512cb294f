"""What the readers of films and ratings share: how a rating is an action, and a film a text."""

import pyarrow as pa
import pyarrow.compute as pc

LIKED_RATING = 4.0
"""Of five stars. The field's usual line between liked and merely watched."""


def actions_of(ratings: pa.Array) -> pa.Array:
    """Return `like` for a rating of four or more, else `view`."""
    return pc.if_else(pc.greater_equal(ratings, LIKED_RATING), "like", "view")


def item_texts(titles: pa.Array, categories: pa.Array) -> pa.Array:
    """Return title and categories as one readable text."""
    tags = pc.binary_join(categories, " ")
    return pc.utf8_rtrim_whitespace(pc.binary_join_element_wise(titles, tags, " "))


def split_categories(cells: pa.Array, separator: str) -> pa.Array:
    """Return lists of categories without empty ones; a null cell is an empty list."""
    lists = [[tag for tag in (cell or "").split(separator) if tag] for cell in cells.to_pylist()]
    return pa.array(lists, pa.list_(pa.string()))
