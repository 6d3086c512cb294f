"""A load whose every acknowledged event is remembered, so that a lost one can be named.

Producers of three kinds run at once, because each can lose an event, or count it twice, in a way of
its own:

    the SDK       most of it. Some clients lost the answer and send the same event again; some
                  events are dead letters among good siblings; some users are erased now and then
    a foreigner   a client that hashes otherwise puts records on the wrong partition
    the gateway   a client that repeats an event under the same name until it is accepted

An event that comes again is always among its user's newest 64: within that window the product
promises to count it once, and the verdict (stream/bench/verdict.py) builds on it. So who repeats
for long has a user of his own.
"""

import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import grpc

from infra.channels import sync_channel
from infra.kafka_topics import user_partition
from protos.errors import FreshetError
from protos.rec.v1.events_pb2 import Event, PublishRequest, Receipt
from protos.rec.v1.events_pb2_grpc import EventServiceStub
from stream.bench.world import N_PARTITIONS, StreamWorld
from stream.producer import Producer, make_batch, make_erasure

N_USERS = 300
N_SPECIAL_USERS = 10
GATEWAY_PER_S = 20.0
CALL_S = 5.0
_WAIT_S = 30.0
RECONNECT = (("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 500))
"""gRPC waits up to two minutes before it tries a lost server again."""

EventName = tuple[str, str]
"""(user id, event_id)"""


class Acknowledged:
    """Which valid events Kafka, or the gateway, said it had. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._names: set[EventName] = set()
        self.n_failed = 0
        """Records whose delivery failed: their events may be in the log or not."""

    def add(self, user_id: str, events: Sequence[Event]) -> None:
        with self._lock:
            self._names.update((user_id, e.event_id) for e in events if e.action != UNDECLARED)

    def fail(self) -> None:
        with self._lock:
            self.n_failed += 1

    def names(self) -> frozenset[EventName]:
        with self._lock:
            return frozenset(self._names)


UNDECLARED = "undeclared"
"""The action of dead letters."""


class EventMaker:
    """Events of one producer, with names that no other gives."""

    def __init__(self, name: str, item_ids: Sequence[str], seed: int) -> None:
        self._name, self._item_ids = name, item_ids
        self.rng = random.Random(seed)
        self._n_made = 0

    def make(self, n: int, *, dead_share: float = 0.0) -> list[Event]:
        return [self._event(dead_share) for _ in range(n)]

    def _event(self, dead_share: float) -> Event:
        self._n_made += 1
        is_dead = self.rng.random() < dead_share
        action = UNDECLARED if is_dead else self.rng.choice(("click", "click", "like", "view"))
        late_ms = self.rng.choice((0, 0, 0, 7_000))
        # One in fifty is of an item that no catalogue knows.
        is_known = self.rng.random() < 0.98
        return Event(
            event_id=f"{self._name}{self._n_made}",
            item_id=self.rng.choice(self._item_ids) if is_known else f"unknown-{self._n_made}",
            action=action,
            event_time_ms=time.time_ns() // 1_000_000 - late_ms,
        )


class CrashLoad:
    """Publishes in the background until it is stopped."""

    def __init__(
        self, world: StreamWorld, gateway: str, item_ids: Sequence[str], records_per_s: float
    ) -> None:
        """
        Args:
            gateway: its address, host:port.
            records_per_s: through the SDK; a record has 1.8 events.
        """
        self.acknowledged = Acknowledged()
        self.item_ids = item_ids
        self._records_per_s = records_per_s
        self._world, self._gateway = world, gateway
        self._producer = Producer(world.bootstrap, topic_prefix=world.prefix)
        self._sdk = EventMaker("s", item_ids, seed=4)
        self._foreign = EventMaker("f", item_ids, seed=5)
        self._by_gateway = EventMaker("g", item_ids, seed=6)
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=run, daemon=True)
            for run in (self._run_producer, self._run_gateway)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_s: float = 60.0) -> None:
        """Stop, and wait for what is on its way. Raises FreshetError when that does not end."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(timeout_s)
            if thread.is_alive():
                raise FreshetError("a publishing thread did not end")
        self._producer.flush(timeout_s)
        self._world.producer.flush(timeout_s)

    def close(self) -> None:
        """Stop at once; what is on its way is nobody's business any more."""
        self._stopping.set()

    # -- through Kafka -------------------------------------------------------------------------

    def _run_producer(self) -> None:
        due = time.monotonic()
        while not self._stopping.wait(max(0.0, due - time.monotonic())):
            try:
                self._publish_one()
            except FreshetError:  # Kafka was away for long, and this client has given up
                self.acknowledged.fail()
            # What an outage has kept back is not made up for by a burst.
            due = max(due + 1 / self._records_per_s, time.monotonic() - 1.0)

    def _publish_one(self) -> None:
        rng = self._sdk.rng
        dice = rng.random()
        if dice < 0.005:
            self._publish_misplaced()
        elif dice < 0.02:
            self._publish_erasable()
        else:
            self._publish_common(rng)

    def _publish_common(self, rng: random.Random) -> None:
        events = self._sdk.make(rng.choice((1, 1, 1, 1, 5)), dead_share=0.01)
        user_id = f"u{int(rng.paretovariate(0.5)) % N_USERS}"
        self._send(user_id, events)
        if rng.random() < 0.05:
            self._send(user_id, events)  # the client's answer was lost

    def _publish_misplaced(self) -> None:
        user_id = f"f{self._foreign.rng.randrange(N_SPECIAL_USERS)}"
        events = self._foreign.make(1)
        home = user_partition("default", user_id, N_PARTITIONS)
        future = self._world.publish(user_id, events, partition=(home + 1) % N_PARTITIONS)
        future.add_callback(lambda metadata: self.acknowledged.add(user_id, events))
        future.add_errback(lambda error: self.acknowledged.fail())

    def _publish_erasable(self) -> int:
        user_id = f"x{self._sdk.rng.randrange(N_SPECIAL_USERS)}"
        if self._sdk.rng.random() < 0.03:
            self._watch(
                self._producer.send(make_erasure("", user_id), wait_s=_WAIT_S), lambda: None
            )
            return 1
        events = self._sdk.make(3)
        self._send(user_id, events)
        return 3

    def _send(self, user_id: str, events: Sequence[Event]) -> None:
        # `send` judges nothing, so that dead letters get through.
        delivery = self._producer.send(make_batch("", user_id, events), wait_s=_WAIT_S)
        self._watch(delivery, lambda: self.acknowledged.add(user_id, events))

    def _watch(self, delivery: Future[Receipt], on_success: Callable[[], None]) -> None:
        def ended(done: Future[Receipt]) -> None:
            if done.exception() is None:
                on_success()
            else:
                self.acknowledged.fail()

        delivery.add_done_callback(ended)

    # -- through the gateway -------------------------------------------------------------------

    def _run_gateway(self) -> None:
        with sync_channel(self._gateway, RECONNECT) as channel:
            stub = EventServiceStub(channel)
            while not self._stopping.wait(1 / GATEWAY_PER_S):
                user_id = f"g{self._by_gateway.rng.randrange(N_SPECIAL_USERS)}"
                events = self._by_gateway.make(1)
                if self._publish_until_accepted(stub, user_id, events):
                    self.acknowledged.add(user_id, events)

    def _publish_until_accepted(
        self, stub: EventServiceStub, user_id: str, events: Sequence[Event]
    ) -> bool:
        """Repeat the same event while the gateway is away; False when stopped before."""
        request = PublishRequest(user_id=user_id, events=events)
        while not self._stopping.is_set():
            try:
                stub.Publish(request, timeout=CALL_S)
            except grpc.RpcError:
                self._stopping.wait(0.1)
            else:
                return True
        return False
