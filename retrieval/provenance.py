"""Whether the store on disk still belongs to the log it was copied from.

Offsets mean something only within one log. After Kafka was set up anew they would hide every new
record behind old ones, so a store of another cluster, or one that remembers offsets that its topics
do not reach, is thrown away and filled again.
"""

import structlog
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from protos.errors import DependencyDown
from retrieval.store import META, Store

log = structlog.get_logger(__name__)

_CLUSTER = b"cluster"


def keep_or_clear(store: Store, bootstrap: str, topics: list[str]) -> None:
    """Clear the store unless it was filled from these topics of this cluster."""
    try:
        cluster_id = _cluster_id(bootstrap)
        reason = _mismatch(store, bootstrap, cluster_id, topics)
    except KafkaError as error:
        raise DependencyDown(
            f"Kafka at {bootstrap} does not answer; is it up? ({error})"
        ) from error
    if reason:
        log.warning("store_cleared", reason=reason)
        store.clear()
    store.put(META, _CLUSTER, cluster_id.encode())


def cluster_of(store: Store) -> bytes:
    """Return the name of the Kafka cluster that the store was filled from."""
    return store.get(META, _CLUSTER) or b""


def _mismatch(store: Store, bootstrap: str, cluster_id: str, topics: list[str]) -> str:
    known = store.get(META, _CLUSTER)
    if known is not None and known.decode() != cluster_id:
        return f"it belongs to Kafka cluster {known.decode()}, this one is {cluster_id}"
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    try:
        for topic in topics:
            for number, offset in store.next_offsets(topic).items():
                at = TopicPartition(topic, number)
                end = consumer.end_offsets([at], timeout_ms=10_000)[at]
                if offset > end:
                    return f"{topic} partition {number} ends at {end}, before offset {offset}"
    finally:
        consumer.close()
    return ""


def _cluster_id(bootstrap: str) -> str:
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        return str(admin.describe_cluster()["cluster_id"])
    finally:
        admin.close()
