import asyncio

from retrieval.changes import Changes


async def test_a_watcher_hears_of_its_key_from_another_thread():
    changes = Changes()

    with changes.watch(b"a") as heard, changes.watch(b"b") as other:
        await asyncio.to_thread(changes.announce, [b"a", b"c"])
        await asyncio.wait_for(heard.wait(), 5)

        assert not other.is_set()


async def test_watchers_that_left_are_forgotten():
    changes = Changes()
    with changes.watch(b"a"), changes.watch(b"a", b"b"):
        pass

    assert changes._watchers == {}
    changes.announce([b"a"])
