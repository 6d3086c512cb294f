"""Item texts as token ids."""

from encoder.start import Texts
from encoder.texts import ITEM, item_tokens, train_tokenizer


def test_a_blank_text_is_no_text():
    tokenizer = train_tokenizer(["red thing", "blue thing"])

    tokens, lengths = item_tokens(tokenizer, ["red", "", "   ", "\n\t"], 8)

    assert lengths.tolist() == [len(tokenizer.encode("red").ids) + 1, 1, 1, 1]
    assert set(tokens[1:, 0]) == {tokenizer.token_to_id(ITEM)}


def test_items_without_text_are_counted():
    assert Texts(["a", "b", "c"], ["red", "  ", ""]).remarks()[0].startswith("2 of 3 items have no")
    assert Texts(["a"], ["red"]).remarks() == []
