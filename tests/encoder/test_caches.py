import numpy as np

from encoder.caches import BlockCache


def block(value, n_numbers=8):
    return np.full(n_numbers, value, np.float16)


def held(cache, *names):
    """Which of these blocks are there."""
    found = cache.find([name.encode() for name in names])
    return "".join(name for name, one in zip(names, found, strict=True) if one is not None)


def filled(capacity_bytes, names):
    cache = BlockCache(capacity_bytes)
    for value, name in enumerate(names):
        cache.put(name.encode(), block(value))
    return cache


def test_blocks_that_were_not_asked_for_longest_go_first():
    cache = filled(3 * 16, "abc")
    cache.find([b"a"])

    cache.put(b"d", block(4))

    assert held(cache, *"abcd") == "acd"


def test_a_block_that_comes_again_counts_once():
    cache = filled(3 * 16, "abb")
    cache.put(b"b", block(7))

    cache.put(b"c", block(4))

    assert held(cache, *"abc") == "abc"
    assert cache.find([b"b"])[0][0] == 7


def test_a_block_larger_than_the_cache_drives_nobody_out():
    cache = filled(2 * 16, "ab")

    cache.put(b"c", block(1, n_numbers=17))

    assert held(cache, *"abc") == "ab"


def test_a_large_block_drives_several_out():
    cache = filled(3 * 16, "abc")

    cache.put(b"d", block(1, n_numbers=16))

    assert held(cache, *"abcd") == "cd"
