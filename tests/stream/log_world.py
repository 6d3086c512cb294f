"""rec.events in memory, and events to write there."""

from types import SimpleNamespace

from infra.kafka_topics import user_partition
from protos.rec.v1.events_pb2 import Event, EventBatch

N_PARTITIONS = 2


class Log:
    """Records of rec.events in memory, by partition."""

    def __init__(self):
        self.records = {number: [] for number in range(N_PARTITIONS)}

    def write(self, batch, *, partition=None, timestamp=10_000, headers=()):
        home = user_partition(batch.tenant or "default", batch.user_id, N_PARTITIONS)
        number = home if partition is None else partition
        value = batch if isinstance(batch, bytes) else batch.SerializeToString()
        record = SimpleNamespace(
            topic="rec.events",
            partition=number,
            offset=len(self.records[number]),
            timestamp=timestamp,
            key=None,
            value=value,
            headers=headers,
            n_partitions=N_PARTITIONS,
        )
        self.records[number].append(record)


def batch(*events, user="ann", **fields):
    return EventBatch(user_id=user, events=events, **fields)


def event(item, **fields):
    return Event(**{"item_id": item, "action": "click", "event_time_ms": 5_000} | fields)
