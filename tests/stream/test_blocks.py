import pytest

from stream.blocks import BlockStore
from stream.store import N_KEPT_SEGMENTS

DIGEST, OTHER = b"d" * 16, b"o" * 16


@pytest.fixture
def blocks(tmp_path):
    blocks = BlockStore(tmp_path)
    yield blocks
    blocks.close()


def test_block_is_found_by_its_digest_only(blocks):
    blocks.put(0, b"t/ann", 3, DIGEST, b"memory")

    assert blocks.get(0, b"t/ann", 3, DIGEST) == b"memory"
    assert blocks.get(0, b"t/ann", 3, OTHER) is None
    assert blocks.get(0, b"t/ann", 4, DIGEST) is None


def test_blocks_beyond_retention_go(blocks):
    blocks.put(0, b"t/ann", 0, DIGEST, b"memory")
    blocks.put(0, b"t/ann", N_KEPT_SEGMENTS, DIGEST, b"memory")

    assert blocks.get(0, b"t/ann", 0, DIGEST) is None


def test_erased_user_leaves_no_block_and_harms_no_other(blocks):
    for user in (b"t/a", b"t/ann", b"t/a\x00\x00\x00\x01"):
        for index in (0, 1, 63):
            blocks.put(0, user, index, DIGEST, b"memory")

    blocks.delete_user(0, b"t/a")

    assert [blocks.get(0, b"t/a", i, DIGEST) for i in (0, 1, 63)] == [None] * 3
    assert blocks.get(0, b"t/ann", 0, DIGEST) == b"memory"
    assert blocks.get(0, b"t/a\x00\x00\x00\x01", 0, DIGEST) == b"memory"


def test_blocks_of_a_partition_that_moved_away_are_removed(blocks, tmp_path):
    blocks.put(0, b"t/ann", 0, DIGEST, b"memory")
    blocks.put(1, b"t/bob", 0, DIGEST, b"memory")

    blocks.keep_only([1])

    assert blocks.get(1, b"t/bob", 0, DIGEST) == b"memory"
    assert [path.name for path in tmp_path.iterdir()] == ["1.blocks"]


def test_blocks_outlive_the_process(tmp_path):
    first = BlockStore(tmp_path)
    first.put(0, b"t/ann", 0, DIGEST, b"memory")
    first.close()

    second = BlockStore(tmp_path)

    assert second.get(0, b"t/ann", 0, DIGEST) == b"memory"
    second.close()
