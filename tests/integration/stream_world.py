"""A stream worker as a real process on a real Kafka, and what a test wants to know of it."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from pathlib import Path
from types import SimpleNamespace

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.structs import OffsetAndMetadata

from infra.kafka_topics import Topics, ensure_topics
from protos.history import Head
from protos.keys import compose_key
from protos.rec.v1.events_pb2 import EventBatch
from protos.rec.v1.interests_pb2 import UserInterests
from protos.segments import segment_columns
from stream.kafka_clients import app_id, changelog_topic

N_PARTITIONS = 4
WAIT_S = 90


class StreamWorld:
    """Topics under a prefix of their own; workers by name."""

    def __init__(self, bootstrap, folder):
        self.bootstrap, self.folder = bootstrap, Path(folder)
        self.prefix = f"t{uuid.uuid4().hex[:10]}"
        self.topics = Topics(self.prefix)
        ensure_topics(bootstrap, self.topics, n_partitions=N_PARTITIONS)
        self.producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=5)
        self.workers = []

    def worker(self, encoder_address, name="worker-0", **settings):
        worker = WorkerProcess(self, encoder_address, name, settings)
        self.workers.append(worker)
        return worker

    def close(self):
        for worker in self.workers:
            worker.kill()
        self.producer.close()

    def publish(self, user_id, events, *, tenant="", partition=None, **fields):
        """Write one record; return the future of its metadata."""
        batch = EventBatch(tenant=tenant, user_id=user_id, events=events, **fields)
        key = compose_key(tenant or "default", user_id)
        return self.producer.send(
            self.topics.events, key=key, value=batch.SerializeToString(), partition=partition
        )

    def read(self, topic):
        """Return all records of a topic, each partition in its order."""
        consumer = KafkaConsumer(bootstrap_servers=self.bootstrap, enable_auto_commit=False)
        try:
            partitions = [TopicPartition(topic, n) for n in consumer.partitions_for_topic(topic)]
            consumer.assign(partitions)
            consumer.seek_to_beginning(*partitions)
            ends = consumer.end_offsets(partitions)
            records = []
            while any(consumer.position(p) < ends[p] for p in partitions):
                for some in consumer.poll(timeout_ms=500).values():
                    records += some
            return sorted(records, key=lambda record: (record.partition, record.offset))
        finally:
            consumer.close()

    def log(self):
        """Return rec.events as the oracle wants it."""
        return [
            SimpleNamespace(
                partition=r.partition,
                offset=r.offset,
                timestamp=r.timestamp,
                value=r.value,
                n_partitions=N_PARTITIONS,
            )
            for r in self.read(self.topics.events)
        ]

    def ends(self):
        consumer = KafkaConsumer(bootstrap_servers=self.bootstrap)
        try:
            partitions = [TopicPartition(self.topics.events, n) for n in range(N_PARTITIONS)]
            return {p.partition: end for p, end in consumer.end_offsets(partitions).items()}
        finally:
            consumer.close()

    def committed(self):
        """Return the group's committed offsets of rec.events by partition."""
        group = app_id(self.topics)
        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        try:
            found = admin.list_group_offsets(group)
            offsets = found.get(group, found)
            return {
                tp.partition: at.offset
                for tp, at in offsets.items()
                if tp.topic == self.topics.events and at.offset >= 0
            }
        finally:
            admin.close()

    def rewind(self):
        """Set the group's committed offsets back to 0, once its last member has timed out."""
        offsets = {
            TopicPartition(self.topics.events, n): OffsetAndMetadata(0, "", -1)
            for n in range(N_PARTITIONS)
        }
        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        try:

            def is_done():
                admin.alter_group_offsets(app_id(self.topics), offsets)
                return sum(self.committed().values()) == 0

            wait_for(is_done, "the group kept its offsets")
        finally:
            admin.close()

    def wait_drained(self, timeout_s=WAIT_S):
        """Wait until everything in rec.events is committed."""
        self.producer.flush()

        def is_drained():
            ends, committed = self.ends(), self.committed()
            return all(committed.get(n, 0) >= end for n, end in ends.items())

        wait_for(is_drained, f"{self.prefix}: not drained", timeout_s)

    def wait_interests(self, user_id, offset, *, tenant="default", timeout_s=WAIT_S):
        """Return the first published state of a user that includes a record."""
        found = []

        def is_there():
            for record in self.read(self.topics.interests):
                state = UserInterests.FromString(record.value)
                is_his = (state.tenant, state.user_id) == (tenant, user_id)
                if is_his and state.encoded_offset >= offset:
                    found.append(state)
                    return True
            return False

        wait_for(is_there, f"no interests of {user_id} at {offset}", timeout_s)
        return found[0]

    def states(self):
        """Return the histories in the changelog topic: {(tenant, user): columns}."""
        newest = {}
        for record in self.read(changelog_topic(self.topics)):
            newest[record.key] = record.value
        return decode_states({key: value for key, value in newest.items() if value is not None})


def decode_states(newest):
    heads = {key[1:]: Head.from_bytes(v) for key, v in newest.items() if key[:1] == b"h"}
    states = {}
    for user_key, head in heads.items():
        closed = [newest.get(b"s" + user_key + i.to_bytes(4, "big")) for i in range(head.n_closed)]
        columns = [segment_columns(s) for s in closed if s is not None]
        columns.append(segment_columns(head.open.to_bytes()))
        tenant, _, user_id = user_key.decode().partition("/")
        states[tenant, user_id] = SimpleNamespace(
            head=head,
            hashes=[int(x) for c in columns for x in c.hashes],
            actions=[int(x) for c in columns for x in c.actions],
            gaps=[int(x) for c in columns for x in c.gaps],
            codes=[bytes(x) for c in columns for x in c.codes],
            coded=[bool(x) for c in columns for x in c.coded],
        )
    return states


def differences(states, oracle):
    """Return what differs, as (user, what, found, expected); empty when all is equal."""
    found = []
    for key in sorted(states.keys() | oracle.keys()):
        if key not in states or key not in oracle:
            found.append((key, "exists", key in states, key in oracle))
            continue
        state, want = states[key], oracle[key]
        pairs = {
            "hashes": (state.hashes, want.kept(want.hashes)),
            "actions": (state.actions, want.kept(want.actions)),
            "gaps": (state.gaps, want.kept(want.gaps)),
            "n_events": (state.head.n_events, len(want.hashes)),
            "n_late": (state.head.n_late, want.n_late),
            "watermark": (state.head.watermark, want.watermark),
            "erased": (state.head.erased, want.erased),
            "newest_ms": (state.head.last_event_time_ms, want.newest_ms),
            "accepted_ms": (state.head.last_accepted_ms, want.accepted_ms),
            "recent": (
                [(r.item_id, r.event_time_ms, r.action) for r in state.head.recent],
                want.items[-32:],
            ),
            "n_ids": (len(state.head.event_hashes), min(64, len(want.ids))),
            "last_id": (state.head.last_event_id, want.ids[-1] if want.ids else ""),
        }
        found += [(key, what, a, b) for what, (a, b) in pairs.items() if a != b]
    return found


class WorkerProcess:
    """`python -m stream.worker`, nothing less."""

    def __init__(self, world, encoder_address, name, settings):
        self._world, self.name = world, name
        self.port = free_port()
        self.folder = world.folder / "stream" / name
        self._log_path = world.folder / f"{name}.log"
        self._env = dict(
            os.environ,
            FRESHET_KAFKA_BOOTSTRAP=world.bootstrap,
            FRESHET_TOPIC_PREFIX=world.prefix,
            FRESHET_N_PARTITIONS=str(N_PARTITIONS),
            FRESHET_ENCODER=encoder_address,
            FRESHET_STATE=str(world.folder),
            FRESHET_STREAM_INSTANCE=name,
            FRESHET_STREAM_METRICS_PORT=str(self.port),
            **{f"FRESHET_STREAM_{key.upper()}": str(value) for key, value in settings.items()},
        )
        self._process = None

    def start(self):
        command = [sys.executable, "-m", "stream.worker"]
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(command, env=self._env, stdout=log, stderr=log)
        return self

    def wait_ready(self):
        wait_for(lambda: self._check_alive() and self.metrics(), "the worker did not get ready")
        return self

    def _check_alive(self):
        assert self._process.poll() is None, f"worker exited: {self.log()[-4000:]}"
        return True

    def metrics(self):
        """Return all samples by name with labels; empty while it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as page:
                lines = page.read().decode().splitlines()
        except OSError:
            return {}
        samples = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name.removeprefix("freshet_stream_"): float(value) for name, value in samples}

    def kill(self):
        """SIGKILL."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def signal(self, number):
        self._process.send_signal(number)

    def wait(self, timeout_s):
        """Return the exit code."""
        return self._process.wait(timeout_s)

    def stop(self):
        """SIGTERM; return the exit code."""
        self._process.terminate()
        return self._process.wait(30)

    def log(self):
        return self._log_path.read_text(errors="replace")


def wait_for(condition, message, timeout_s=WAIT_S):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, message
        time.sleep(0.05)


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]
