"""Writers that are full or slow, and publishing tasks, for tests of stream/aio_producer.py."""

import asyncio
import threading

from protos.errors import Overloaded
from tests.stream.fake_writer import FakeWriter


class StrictWriter(FakeWriter):
    """Says when full that nobody need ask again for an hour: whoever waits must be told."""

    def submit(self, *args, **kwargs):
        try:
            super().submit(*args, **kwargs)
        except Overloaded as error:
            error.retry_after_s = 3600
            raise


class PatientWriter(FakeWriter):
    """Blocks the calling thread, as Kafka's client does, until `go` is set.

    `go` is set by the test's own event loop: were that loop blocked, it could not be.
    """

    def __init__(self, *args):
        super().__init__(is_silent=True)
        self.go, self.is_known = threading.Event(), True
        self.calls = []
        self._begun, self.closed = threading.Semaphore(0), threading.Event()

    def knows(self, topic):
        return self.is_known

    def warm(self, *topics):
        self.block("warm")
        self.is_known = True

    def flush(self, timeout_s):
        self.block("flush")
        super().flush(timeout_s)

    def close(self):
        self.block("close")
        super().close()
        self.closed.set()

    def block(self, name):
        self.calls.append(name)
        self._begun.release()
        assert self.go.wait(20), "nobody set `go`: the event loop was blocked"

    async def has_begun(self, name):
        """Wait until a call of this name blocks its thread."""
        while name not in self.calls:
            assert await asyncio.to_thread(self._begun.acquire, timeout=20)


async def rest():
    """Let every other task go as far as it can without time passing."""
    for _ in range(20):
        await asyncio.sleep(0)


def publish(producer, user_id, item_id, **kwargs):
    return asyncio.create_task(
        producer.publish(user_id, item_id=item_id, action="view", **kwargs), name=item_id
    )


def item_ids(writer, user_id="user"):
    batches = [one.batch for one in writer.log]
    return [event.item_id for one in batches if one.user_id == user_id for event in one.events]
