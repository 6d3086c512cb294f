"""What the worker is measured against, each a process of its own:

    python -m stream.bench.rivals plain|table|aiokafka --bootstrap ... --topic ... --events N ...

    plain      a stock faust agent that parses each record and keeps nothing
    table      the same with a RocksDB table and its changelog: the lightest state there is, one
               count a user, set by each event
    aiokafka   no faust: the worker's own validation and fold into heads in memory, nothing made
               durable, no codes, no refresh; what Python and this Kafka client could do at best

Settings are the libraries' own, so plain and table commit their offsets now and then, and what they
have done is not waited for to be durable. Each reads the topic from its beginning under a group of
its own, prints one line of JSON (samples; stream/bench/rates.py makes a speed of them), and ends.
"""

import argparse
import asyncio
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import faust
from aiokafka import AIOKafkaConsumer
from faust.types import StreamT, TopicT

from protos.actions import declared_actions
from protos.history import Shape, fold
from protos.rec.v1.events_pb2 import EventBatch
from protos.segments import NO_CODEBOOK
from stream.bench.rates import Sample
from stream.folding import LogRecord
from stream.partition import Partition
from stream.refold import NoDisk
from stream.validation import Place, validate

_EVENTS_A_SAMPLE = 500


@dataclass(frozen=True, slots=True)
class Task:
    """What to read, and where to keep state."""

    bootstrap: str
    topic: str
    group: str
    n_events: int
    n_partitions: int
    folder: str


class Tally:
    """Counts, and ends the process at the last event."""

    def __init__(self, n_expected: int) -> None:
        self._n_expected = n_expected
        self._n = 0
        self._samples: list[Sample] = []

    def count(self) -> None:
        self._n += 1
        is_last = self._n == self._n_expected
        if self._n == 1 or is_last or self._n % _EVENTS_A_SAMPLE == 0:
            self._samples.append(Sample(time.monotonic(), self._n, time.process_time()))
        if is_last:
            print(json.dumps([asdict(sample) for sample in self._samples]), flush=True)
            os._exit(0)  # leaving the group would take seconds, and nothing is kept


def run_plain(task: Task) -> None:
    app = _faust_app(task)
    tally = Tally(task.n_events)

    async def parse(stream: StreamT[bytes]) -> None:
        async for value in stream:
            EventBatch.FromString(value)
            tally.count()

    app.agent(_raw_topic(app, task))(parse)
    _run_faust(app)


def run_table(task: Task) -> None:
    app = _faust_app(task)
    table = app.Table(
        "counts", default=int, key_type=bytes, value_type=int, partitions=task.n_partitions
    )
    tally = Tally(task.n_events)

    async def count(stream: StreamT[bytes]) -> None:
        async for event in stream.events():
            EventBatch.FromString(event.value)
            table[event.key] += 1
            tally.count()

    app.agent(_raw_topic(app, task))(count)
    _run_faust(app)


def run_aiokafka(task: Task) -> None:
    asyncio.run(_fold_in_memory(task))


def _faust_app(task: Task) -> faust.App:
    return faust.App(
        task.group,
        broker=f"kafka://{task.bootstrap}",
        store="rocksdb://",
        datadir=task.folder,
        topic_partitions=task.n_partitions,
        web_enabled=False,
        autodiscover=False,
    )


def _raw_topic(app: faust.App, task: Task) -> TopicT:
    return app.topic(
        task.topic,
        key_type=bytes,
        key_serializer="raw",
        value_type=bytes,
        value_serializer="raw",
    )


def _run_faust(app: faust.App) -> None:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    worker = faust.Worker(
        app, loop=loop, quiet=True, override_logging=False, redirect_stdouts=False
    )
    worker.spinner = None
    worker.execute_from_commandline()


async def _fold_in_memory(task: Task) -> None:
    consumer = AIOKafkaConsumer(
        task.topic,
        bootstrap_servers=task.bootstrap,
        group_id=task.group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    tally = Tally(task.n_events)
    apply = _in_memory_fold(task.n_partitions)
    await consumer.start()
    try:
        while True:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    apply(record)
                    tally.count()
    finally:
        await consumer.stop()


def _in_memory_fold(n_partitions: int) -> Callable[[LogRecord], None]:
    action_of = declared_actions().get
    partitions = [Partition(n, NoDisk(), Shape(), n_cached=0) for n in range(n_partitions)]

    def apply(record: LogRecord) -> None:
        partition = partitions[record.partition]
        place = Place(record.topic, record.partition, record.offset, record.timestamp)
        said = validate(record.value, place, action_of, record.headers)
        fold(
            partition.user(said.user_key).head,
            said.events,
            offset=record.offset,
            accepted_ms=record.timestamp,
            codes_of=lambda item_hash: None,
            codebook_version=NO_CODEBOOK,
        )

    return apply


RIVALS: dict[str, Callable[[Task], None]] = {
    "plain": run_plain,
    "table": run_table,
    "aiokafka": run_aiokafka,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="One rival of the stream worker.")
    parser.add_argument("rival", choices=sorted(RIVALS))
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--group", required=True)
    parser.add_argument("--events", type=int, required=True, help="End after so many.")
    parser.add_argument("--partitions", type=int, required=True)
    parser.add_argument("--folder", required=True, help="For state.")
    given = parser.parse_args()
    task = Task(
        given.bootstrap, given.topic, given.group, given.events, given.partitions, given.folder
    )
    RIVALS[given.rival](task)


if __name__ == "__main__":
    main()
