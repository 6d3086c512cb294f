"""Item texts as token ids, [ITEM] as the last token.

The tokenizer is an LLM's own, or a byte-level BPE trained on the catalogue.

The tokenizer is part of the bundle (tokenizer.json, the format of the tokenizers library).
"""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

PAD, ITEM = "[PAD]", "[ITEM]"
PAD_ID = 0
"""Never seen by anything, so any token of a tokenizer will do."""


def train_tokenizer(texts: Iterable[str], *, vocab_size: int = 4096) -> Tokenizer:
    """Fit a tokenizer on all texts of a catalogue. The same texts give the same tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, ITEM],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def item_tokens(
    tokenizer: Tokenizer, texts: Sequence[str], max_tokens: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return (N, T) token ids padded on the right, and (N,) lengths. Each row ends in [ITEM], and
    is nothing else for a blank text."""
    said = ["" if text.isspace() else text for text in texts]
    found = tokenizer.encode_batch(said, add_special_tokens=False)
    rows = [encoding.ids[: max_tokens - 1] for encoding in found]
    lengths = np.array([len(row) + 1 for row in rows], dtype=np.int64)
    tokens = np.full((len(rows), int(lengths.max(initial=1))), PAD_ID, dtype=np.int64)
    item_id = tokenizer.token_to_id(ITEM)
    assert item_id is not None, "every tokenizer here has [ITEM]"
    for place, row in enumerate(rows):
        tokens[place, : len(row)] = row
        tokens[place, len(row)] = item_id
    return tokens, lengths
