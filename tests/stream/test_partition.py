from protos.history import FoldEvent, Shape, fold
from stream.partition import Arrival, Partition
from stream.store import POSITION_KEY, Published, head_key, pack_position, segment_key

SHAPE = Shape(segment_size=4)


class MemoryDisk:
    def __init__(self, **stored):
        self.stored = dict(stored)
        self.changelog_offset = None

    def get(self, key):
        return self.stored.get(key)

    def write(self, changes, changelog_offset):
        for key, value in changes.items():
            if value is None:
                self.stored.pop(key, None)
            else:
                self.stored[key] = value
        self.changelog_offset = changelog_offset

    def items(self, prefix):
        return iter(sorted(item for item in self.stored.items() if item[0].startswith(prefix)))


def a_partition(disk=None, n_cached=100, next_offset=None):
    disk = disk or MemoryDisk()
    if next_offset is not None:
        disk.stored[POSITION_KEY] = pack_position(next_offset)
    return Partition(0, disk, SHAPE, n_cached=n_cached)


def add_event(partition, user_key, offset):
    user = partition.user(user_key)
    events = [FoldEvent(f"e{offset}", offset, "i", 1, 2, 1000)]
    fold(
        user.head,
        events,
        offset=offset,
        accepted_ms=1,
        codes_of=lambda _: None,
        codebook_version=0,
    )
    partition.changed(user)
    partition.advance(offset)
    return user


def checkpoint(partition):
    changes = partition.take_changes()
    partition.write(changes, changelog_offset=len(changes))
    return changes


def test_first_record_of_a_new_partition_is_taken_wherever_the_log_begins():
    assert a_partition().arrive(700) is Arrival.APPLY


def test_redelivered_record_is_skipped():
    partition = a_partition(next_offset=10)

    assert partition.arrive(9) is Arrival.SKIP
    assert partition.arrive(10) is Arrival.APPLY


def test_position_is_committed_again_at_the_end_of_a_redelivery():
    partition = a_partition(next_offset=10)

    partition.arrive(8)
    assert not partition.is_dirty
    partition.arrive(9)

    assert partition.is_dirty
    assert partition.take_changes() == {POSITION_KEY: pack_position(10)}


def test_gap_is_read_again_and_accepted_when_a_second_read_finds_it_just_so():
    partition = a_partition(next_offset=10)

    assert partition.arrive(15) is Arrival.REREAD
    assert partition.arrive(15) is Arrival.APPLY
    assert partition.n_lost_offsets == 5


def test_gap_that_the_second_read_fills_was_none():
    partition = a_partition(next_offset=10)
    assert partition.arrive(15) is Arrival.REREAD

    for offset in range(10, 16):
        assert partition.arrive(offset) is Arrival.APPLY
        partition.advance(offset)

    assert partition.n_lost_offsets == 0


def test_gap_that_the_second_read_finds_elsewhere_is_read_a_third_time():
    partition = a_partition(next_offset=10)
    assert partition.arrive(15) is Arrival.REREAD

    assert partition.arrive(13) is Arrival.REREAD
    assert partition.arrive(13) is Arrival.APPLY


def test_state_and_position_become_durable_together():
    disk = MemoryDisk()
    partition = a_partition(disk)
    add_event(partition, b"t/ann", 6)

    checkpoint(partition)

    again = Partition(0, disk, SHAPE, n_cached=100)
    assert again.next_offset == 7
    assert again.user(b"t/ann").head.watermark == 6


def test_position_comes_last_and_heads_after_their_segments():
    partition = a_partition()
    user = add_event(partition, b"t/ann", 1)
    partition.put_segment(b"t/ann", 0, user.head.open)
    partition.put_published(b"t/ann", Published(1))

    keys = list(partition.take_changes())

    assert keys[-2:] == [head_key(b"t/ann"), POSITION_KEY]
    assert segment_key(b"t/ann", 0) in keys[:-2]


def test_what_is_being_written_is_still_found():
    partition = a_partition()
    user = add_event(partition, b"t/ann", 1)
    partition.put_segment(b"t/ann", 0, user.head.open)
    changes = partition.take_changes()

    assert partition.segment(b"t/ann", 0) is not None
    partition.delete_segment(b"t/ann", 0)
    assert partition.segment(b"t/ann", 0) is None, "the newer deletion hides it"
    partition.write(changes, 5)
    assert partition.segment(b"t/ann", 0) is None


def test_event_during_a_checkpoint_is_in_the_next_one():
    disk = MemoryDisk()
    partition = a_partition(disk)
    add_event(partition, b"t/ann", 1)
    changes = partition.take_changes()

    add_event(partition, b"t/ann", 2)
    partition.write(changes, 5)

    assert partition.is_dirty
    checkpoint(partition)
    assert Partition(0, disk, SHAPE, n_cached=9).user(b"t/ann").head.n_events == 2


def test_only_clean_heads_are_evicted_oldest_first():
    partition = a_partition(n_cached=2)
    for offset, name in enumerate((b"a", b"b", b"c", b"d")):
        add_event(partition, name, offset)
    changes = partition.take_changes()
    add_event(partition, b"a", 4)  # dirty again while its checkpoint is written

    partition.write(changes, 5)

    assert [partition.holds(name) for name in (b"a", b"b", b"c", b"d")] == [
        True,
        False,
        False,
        True,
    ]
    assert partition.user(b"b").head.n_events == 1, "read again from disk"


def test_record_without_effect_still_moves_the_position():
    disk = MemoryDisk()
    partition = a_partition(disk, next_offset=3)

    partition.advance(3)

    assert partition.is_dirty
    checkpoint(partition)
    assert Partition(0, disk, SHAPE, n_cached=9).next_offset == 4
