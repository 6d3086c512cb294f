"""A tiny bundle with random weights, made in well under a second, and users to send it."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from transformers import LlamaConfig

from encoder.bundle import Bundle, Catalogue
from encoder.codebook import fit_codebook
from encoder.config import ModelConfig
from encoder.items import ItemTower
from encoder.model import Recommender
from encoder.texts import item_tokens, train_tokenizer
from protos.keys import text_digest
from protos.rec.v1.encoder_pb2 import Block, UserState
from protos.rec.v1.interests_pb2 import TIER_REFINED
from protos.segments import Segment, block_digests

CONFIG = ModelConfig(
    dim=16,
    n_interests=3,
    n_levels=3,
    n_centres=16,
    segment_size=8,
    n_memory=2,
    n_blocks=3,
    light_layers=2,
    light_heads=2,
    light_width=16,
    recent_size=8,
    max_item_tokens=8,
)
N_ITEMS = 40
COLOURS = ("red", "blue", "green", "dark", "pale")


def tiny_llm_config(config, vocab_size, family=LlamaConfig):
    return family(
        vocab_size=vocab_size,
        hidden_size=16,
        intermediate_size=24,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        num_hidden_layers=config.shallow_layers + config.middle_layers + config.deep_layers,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=None,
    ).to_dict()


def randomise(module, seed):
    """Give every parameter a say, also those that start at zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(0.3 * noise)


def make_bundle(config=CONFIG, seed=0, family=LlamaConfig) -> Bundle:
    """A bundle as training would leave it, but for the weights."""
    item_ids = [f"item-{row}" for row in range(N_ITEMS)]
    texts = [f"{COLOURS[row % 5]} thing {row} " + "very " * (row % 4) for row in range(N_ITEMS)]
    torch.manual_seed(seed)
    tokenizer = train_tokenizer(texts, vocab_size=300)
    llm_config = tiny_llm_config(config, tokenizer.get_vocab_size(), family)
    coder = ItemTower(config, llm_config, N_ITEMS, config.shallow_layers).eval()
    randomise(coder, seed)
    tokens, lengths = map(torch.from_numpy, item_tokens(tokenizer, texts, config.max_item_tokens))
    with torch.inference_mode():
        coded = coder(tokens, lengths, torch.arange(N_ITEMS)).embeddings.numpy()
    codebook = fit_codebook(coded, n_levels=config.n_levels, n_centres=config.n_centres)
    model = Recommender(config, llm_config, codebook, N_ITEMS).eval()
    randomise(model, seed + 1)
    with torch.inference_mode():
        embeddings = model.tower(tokens, lengths, torch.arange(N_ITEMS)).embeddings.numpy()
    catalogue = Catalogue(item_ids, texts, embeddings, codebook.encode(coded))
    return Bundle(config, llm_config, model, codebook, coder, tokenizer, catalogue, {"quick": True})


@dataclass(frozen=True)
class SentUser:
    """A user as the stream would cut him."""

    state: UserState
    segments: list[bytes]
    """All closed segments, oldest first."""

    def with_segments(self) -> UserState:
        """The state with every block as its segment."""
        state = UserState()
        state.CopyFrom(self.state)
        digests = block_digests(state.model_version, self.segments, CONFIG.block_depth)
        state.block_digests = b"".join(digests)
        for digest, segment in zip(digests, self.segments, strict=True):
            state.blocks.append(Block(digest=digest, segment=segment))
        return state


def make_user(bundle, n_events, seed=0, user_id="u", tier=TIER_REFINED) -> SentUser:
    """A user with `n_events` random events, the first of those of one with more; blocks are named
    by digest only."""
    rng = np.random.default_rng(seed)
    config, catalogue = bundle.config, bundle.catalogue
    rows = []
    segments = [Segment(config.n_levels) for _ in range(n_events // config.segment_size + 1)]
    for place in range(n_events):
        row = int(rng.integers(0, N_ITEMS))
        rows.append(row)
        segment = segments[place // config.segment_size]
        segment.use_codebook(int(bundle.codebook_version, 16))
        codes = catalogue.codes[row].tobytes() if rng.random() < 0.9 else None
        action, gap = int(rng.integers(1, 6)), int(rng.integers(0, 65536))
        segment.extend([row], [action], [gap], [codes])
    closed = [segment.to_bytes() for segment in segments[:-1]]
    digests = block_digests(bundle.model_version, closed, config.block_depth)
    recent = rows[-config.recent_size :]
    state = UserState(
        tenant="default",
        user_id=user_id,
        model_version=bundle.model_version,
        codebook_version=bundle.codebook_version,
        block_digests=b"".join(digests[-config.n_blocks :]),
        n_closed_segments=len(closed),
        open_segment=segments[-1].to_bytes(),
        recent_item_ids=[catalogue.item_ids[row] for row in recent],
        recent_text_digests=[text_digest(catalogue.texts[row]) for row in recent],
        n_events=n_events,
        tier=tier,
    )
    return SentUser(state, closed)


def set_newest(state, item_id, digest):
    """Make a revision of an item the newest of the recent ones."""
    state.recent_item_ids[-1], state.recent_text_digests[-1] = item_id, digest


def deeper(config=CONFIG):
    """The same with three light layers: memory then really depends on earlier memory."""
    return replace(config, light_layers=3)
