"""Events under which crashes are tried."""

import random
import threading
import time

from protos.rec.v1.events_pb2 import Event
from stream.bench.world import StreamWorld

N_EVENTS = 20_000
NOW_MS = int(time.time() * 1000)
SMALL_CHECKPOINTS: dict[str, float] = {
    "checkpoint_events": 1_000,
    "checkpoint_interval_s": 0.2,
    "cached_users": 50,
}


class Load:
    """Publishes 20,000 events in the background, with retries and dead letters among them."""

    def __init__(self, world: StreamWorld, per_s: float) -> None:
        self._world, self._per_s = world, per_s
        self.n_sent = self._n_named = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> "Load":
        self._thread.start()
        return self

    def join(self) -> None:
        self._thread.join()
        self._world.producer.flush()

    def _run(self) -> None:
        rng = random.Random(4)
        start = time.monotonic()
        while self.n_sent < N_EVENTS:
            user = f"u{int(rng.paretovariate(0.5)) % 300}"
            events = [self._event(rng) for _ in range(rng.choice((1, 1, 1, 1, 5)))]
            self._world.publish(user, events)
            if rng.random() < 0.05:
                self._world.publish(user, events)  # a client's retry
            self.n_sent += len(events)
            time.sleep(max(0.0, start + self.n_sent / self._per_s - time.monotonic()))

    def _event(self, rng: random.Random) -> Event:
        self._n_named += 1
        named = f"e{self._n_named}" if rng.random() < 0.8 else ""
        action = rng.choices(("click", "like", "undeclared"), (60, 39, 1))[0]
        at_ms = NOW_MS + self._n_named * 100 - rng.choice((0, 0, 0, 7_000))
        return Event(
            event_id=named, item_id=f"i{rng.randrange(500)}", action=action, event_time_ms=at_ms
        )
