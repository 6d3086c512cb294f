from dataclasses import replace

import numpy as np
import pytest
import torch

from encoder.config import ModelConfig
from encoder.engine import Engine
from encoder.light import NO_BLOCK, Rows, visible_keys
from encoder.past import Past
from encoder.plan import UserInput
from protos.segments import Columns
from tests.encoder.tiny import CONFIG, deeper, make_bundle

CLOSE = {"rtol": 1e-4, "atol": 2e-5}
CLOSE_OVER_BLOCKS = {"rtol": 1e-3, "atol": 3e-4}
"""Blocks are f16: a sum in another order may round a key to its neighbour, 1 part in 2,048 away."""


@pytest.fixture(scope="module", params=["transformer", "hstu"])
def deep_engine(request):
    return Engine(make_bundle(replace(deeper(), light_block=request.param)))


def random_segments(n_events, seed, config=CONFIG):
    rng = np.random.default_rng(seed)
    out = []
    for begin in range(0, n_events + 1, config.segment_size):
        n = min(config.segment_size, n_events - begin)
        out.append(
            Columns(
                hashes=np.zeros(n, np.uint32),
                actions=rng.integers(1, 6, n).astype(np.uint8),
                gaps=rng.integers(0, 2**16, n).astype(np.uint16),
                codes=rng.integers(0, config.n_centres, (n, config.n_levels)).astype(np.uint8),
                coded=rng.random(n) < 0.9,
                codebook_version=1,
            )
        )
    return out


def one_pass(engine, segments):
    """All segments at once, as in training."""
    return engine.refresh([UserInput(segments[:-1], segments[-1], [], refine=False)])[0]


def by_appending(engine, segments):
    """Each segment from the stored blocks of those before it, as in serving."""
    blocks = []
    for segment in segments[:-1]:
        empty = replace_length(segments[-1], 0)
        found = engine.refresh([UserInput([*blocks, segment], empty, [], refine=False)])[0]
        blocks.append(found.memories[0])
    return engine.refresh([UserInput(blocks, segments[-1], [], refine=False)])[0]


def replace_length(columns, n):
    return Columns(
        columns.hashes[:n],
        columns.actions[:n],
        columns.gaps[:n],
        columns.codes[:n],
        columns.coded[:n],
        columns.codebook_version,
    )


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("n_events", [1, 7, 8, 9, 16, 31, 40, 67])
def test_appending_from_stored_blocks_equals_the_one_pass_forward(deep_engine, n_events, seed):
    segments = random_segments(n_events, seed)

    appended, whole = by_appending(deep_engine, segments), one_pass(deep_engine, segments)

    np.testing.assert_allclose(appended.vectors, whole.vectors, **CLOSE_OVER_BLOCKS)
    np.testing.assert_allclose(appended.weights, whole.weights, **CLOSE_OVER_BLOCKS)


def test_blocks_carry_information(deep_engine):
    segments = random_segments(19, seed=3)
    others = random_segments(19, seed=4)

    ours = one_pass(deep_engine, segments).vectors
    theirs = one_pass(deep_engine, [*others[:-1], segments[-1]]).vectors

    assert np.abs(ours - theirs).max() > 1e-3


def test_what_is_older_than_the_reach_of_all_layers_changes_nothing(deep_engine):
    n_seen = CONFIG.n_blocks * deep_engine.config.light_layers
    segments = random_segments(CONFIG.segment_size * (n_seen + 2) + 3, seed=5)
    changed = [*random_segments(CONFIG.segment_size, seed=6)[:1], *segments[1:]]

    before, after = one_pass(deep_engine, segments), one_pass(deep_engine, changed)

    np.testing.assert_array_equal(before.vectors, after.vectors)


def test_the_depth_of_a_block_rebuilds_it_exactly(deep_engine):
    segments = random_segments(CONFIG.segment_size * 12, seed=7)
    depth = deep_engine.config.block_depth
    newest = segments[:-1][-depth - 1 :]

    from_all = one_pass(deep_engine, segments).memories[-1]
    rebuilt = one_pass(deep_engine, [*newest, segments[-1]]).memories[-1]

    np.testing.assert_allclose(rebuilt.astype(float), from_all.astype(float), rtol=2e-3, atol=1e-3)


def test_users_in_one_batch_do_not_meet(deep_engine):
    lengths = [1, 8, 30, 5, 17]
    users = [
        UserInput((s := random_segments(n, seed=n))[:-1], s[-1], [], refine=False) for n in lengths
    ]

    together = deep_engine.refresh(users)

    for user, found in zip(users, together, strict=True):
        alone = deep_engine.refresh([user])[0]
        np.testing.assert_allclose(found.vectors, alone.vectors, **CLOSE)


def make_rows(counts, lengths, prior):
    n_rows, longest = len(lengths), max(lengths)
    generator = torch.Generator().manual_seed(0)

    def draw(most, *shape):
        return torch.randint(0, most, shape, generator=generator)

    return Rows(
        codes=draw(CONFIG.n_centres, n_rows, longest, CONFIG.n_levels),
        is_coded=draw(2, n_rows, longest).bool(),
        actions=draw(6, n_rows, longest),
        gaps=draw(2**16, n_rows, longest),
        lengths=torch.tensor(lengths),
        prior=torch.tensor(prior),
        counts=torch.tensor(counts),
    )


def test_samples_of_one_row_are_invisible_to_each_other(deep_engine):
    prior = [[NO_BLOCK, NO_BLOCK]]
    together = deep_engine.bundle.model.light(make_rows([[1, 3, 5]], [6], prior))

    for place, count in enumerate([1, 3, 5]):
        alone = deep_engine.bundle.model.light(make_rows([[count]], [6], prior))

        torch.testing.assert_close(together.coarse[:, place], alone.coarse[:, 0], **CLOSE)


def test_a_sample_equals_a_history_that_ends_there(deep_engine):
    rows = make_rows([[4]], [7], [[NO_BLOCK]])
    cut = Rows(
        rows.codes[:, :4],
        rows.is_coded[:, :4],
        rows.actions[:, :4],
        rows.gaps[:, :4],
        torch.tensor([4]),
        rows.prior,
        rows.counts,
    )

    found, ended = deep_engine.bundle.model.light(rows), deep_engine.bundle.model.light(cut)

    torch.testing.assert_close(found.coarse, ended.coarse, **CLOSE)


def sees(token, key, count, n_events, n_memory, n_interests, length):
    """The rule of the module's docstring, told once more, slowly."""
    first_query = n_events + n_memory
    if key < n_events:
        if token < n_events:
            return key <= token
        is_memory = token < first_query
        return key < (length if is_memory else count[(token - first_query) // n_interests])
    if key < first_query:
        return n_events <= token < first_query
    if token < first_query:
        return False
    return (token - first_query) // n_interests == (key - first_query) // n_interests


def test_the_mask_follows_the_rule():
    rows = make_rows([[2, 4], [0, 1]], [4, 2], [[1, NO_BLOCK], [NO_BLOCK, NO_BLOCK]])
    n_memory, n_interests = CONFIG.n_memory, CONFIG.n_interests

    mask = visible_keys(rows, n_memory, CONFIG)[:, 0]

    n_tokens = 4 + n_memory + 2 * n_interests
    for row in range(2):
        blocks = [place != NO_BLOCK for place in rows.prior[row].tolist() for _ in range(n_memory)]
        counts, length = rows.counts[row].tolist(), int(rows.lengths[row])
        for token in range(n_tokens):
            own = [
                sees(token, key, counts, 4, n_memory, n_interests, length)
                for key in range(n_tokens)
            ]
            assert mask[row, token].tolist() == [*blocks, *map(bool, own)]


@pytest.mark.parametrize("n_memory", [0, CONFIG.n_memory])
@pytest.mark.parametrize("n_past", [None, 0, 3])
def test_every_token_sees_something_even_in_an_empty_segment(n_memory, n_past):
    config = replace(CONFIG, n_memory=n_memory)
    rows = make_rows([[n_past or 0]], [1], [[NO_BLOCK]])
    empty = replace(rows, lengths=torch.tensor([0]))
    past = None
    if n_past is not None:
        pool = torch.zeros(2, config.light_layers, 2, config.light_heads, 3, 8)
        past = Past(pool, torch.tensor([1]), torch.tensor([n_past]), 3)

    assert visible_keys(empty, n_memory, config, past).any(dim=-1).all()


def test_a_block_has_at_most_32_bytes_an_event():
    served = ModelConfig()

    assert served.block_bytes == 2 * 2 * 4 * 64 * 2  # layers, keys and values, M, width, f16
    assert served.block_bytes <= 32 * served.segment_size
