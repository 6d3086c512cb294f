"""The refresh driver with an encoder, an outbox and a disk of ours."""

import asyncio
import time

from prometheus_client import CollectorRegistry

from infra.kafka_follower import Record
from infra.kafka_topics import Topics
from protos.history import FoldEvent, Shape, fold
from protos.rec.v1.encoder_pb2 import (
    RESULT_STATUS_OK,
    RefreshResponse,
    UserResult,
)
from protos.rec.v1.interests_pb2 import Interests, OpenFeed, UserInterests
from stream.blocks import BlockStore
from stream.catalogue import Catalogue
from stream.encoder_client import Model
from stream.metrics import WorkerMetrics
from stream.open_feeds import OpenFeeds
from stream.outbox import Sent
from stream.partition import Partition
from stream.publishing import InterestsPublisher
from stream.refresh import Refresher

SHAPE = Shape(segment_size=4, n_levels=2, recent_size=3)


class NoDisk:
    def __init__(self):
        self.stored = {}

    def get(self, key):
        return self.stored.get(key)

    def write(self, changes, changelog_offset):
        self.stored |= {key: value for key, value in changes.items() if value is not None}

    def items(self, prefix):
        return iter(sorted(item for item in self.stored.items() if item[0].startswith(prefix)))


class FakeOutbox:
    def __init__(self):
        self.records = []

    async def send(self, record):
        self.records.append(record)
        future = asyncio.get_running_loop().create_future()
        future.set_result(Sent(record.partition, len(self.records) - 1))
        return future

    def states(self):
        return [UserInterests.FromString(record.value) for record in self.records]


class FakeEncoder:
    """Answers with `answer(user, request)`; holds calls back while `gate` is clear."""

    def __init__(self):
        self.version = "m-1"
        self.requests = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.failures = []
        self.answer = self.ok

    async def model(self):
        return Model(self.version, f"{7:016x}", 7, 1, n_blocks=2, block_depth=2)

    async def refresh(self, request):
        self.requests.append(request)
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        return RefreshResponse(results=[self.answer(user, request) for user in request.users])

    def ok(self, user, request):
        interests = Interests(model_version=self.version, tier=user.tier, model_sequence=1)
        return UserResult(status=RESULT_STATUS_OK, interests=interests)

    def users(self):
        return [[user.user_id for user in request.users] for request in self.requests]


class World:
    def __init__(self, folder, light_above=1000, requests_in_flight=1):
        self.encoder, self.outbox = FakeEncoder(), FakeOutbox()
        self.partition = Partition(0, NoDisk(), SHAPE, n_cached=1000)
        self.partitions = {0: self.partition}
        self.catalogue = Catalogue(SHAPE.n_levels, lambda: None)
        self.blocks = BlockStore(folder)
        self.metrics = WorkerMetrics(CollectorRegistry())
        self.feeds = OpenFeeds(lambda key: None)
        topics = Topics("rec")
        self.refresher = Refresher(
            self.partitions,
            encoder=self.encoder,
            catalogue=self.catalogue,
            open_feeds=self.feeds,
            blocks=self.blocks,
            publisher=InterestsPublisher(self.outbox, self.blocks, topics, self.metrics),
            metrics=self.metrics,
            requests_in_flight=requests_in_flight,
            light_above=light_above,
        )
        self.offset = 0

    async def start(self):
        await self.refresher.renew_model()
        self.running = asyncio.create_task(self.refresher.run())

    def open_feed(self, user_id):
        feed = OpenFeed(expires_at_ms=time.time_ns() // 1_000_000 + 60_000)
        key = f"default/{user_id}".encode()
        self.feeds.handle([Record(0, 0, 0, key, feed.SerializeToString())])

    def event(self, user_id, item_id="i"):
        key = f"default/{user_id}".encode()
        user = self.partition.user(key)
        self.offset += 1
        fold_event = FoldEvent(f"e{self.offset}", self.offset, item_id, 5, 2, 1000 + self.offset)
        folded = fold(
            user.head,
            [fold_event],
            offset=self.offset,
            accepted_ms=77,
            codes_of=lambda _: None,
            codebook_version=7,
        )
        for index, segment in folded.closed:
            self.partition.put_segment(key, index, segment)
        self.partition.changed(user)
        self.refresher.touch(self.partition, user)
        return self.offset


async def settle(condition, timeout_s=3.0):
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
