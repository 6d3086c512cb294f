"""What the worker counts. Built once in main(), so that importing this registers nothing."""

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from infra.metrics import LATENCY_BUCKETS_S

_CHANGE_BUCKETS = (1, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000)


class WorkerMetrics:
    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"freshet_stream_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"freshet_stream_{name}", text, labels, registry=registry)

        def seconds(name: str, text: str) -> Histogram:
            name = f"freshet_stream_{name}_seconds"
            return Histogram(name, text, buckets=LATENCY_BUCKETS_S, registry=registry)

        self.ready = gauge("ready", "1 while this worker has joined its group and recovered")
        self.records = counter(
            "records",
            "Records of rec.events: applied, redelivered, republished, unreadable",
            "outcome",
        )
        self.events = counter(
            "events", "Events: applied, duplicate, erased, rejected, impression, late", "outcome"
        )
        self.attributed = counter(
            "attributed_events",
            "Events that counted and carry a recommendation_id",
            "scenario",
            "variant",
            "action",
        )
        self.dead_letters = counter("dead_letters", "Dead letters by reason", "reason")
        self.erasures = counter("erasures", "Users erased")
        self.rereads = counter("rereads", "Times that a gap in offsets was read again")
        self.lost_offsets = counter("lost_offsets", "Offsets in gaps that a second read confirmed")
        self.lag = gauge("lag_records", "Records behind the end of rec.events", "partition")
        self.fold_seconds = seconds("fold", "Folding a run of up to 128 records")
        self.checkpoint_seconds = seconds("checkpoint", "One checkpoint, broker and disk included")
        self.checkpoint_changes = Histogram(
            "freshet_stream_checkpoint_changes",
            "Keys written by one checkpoint",
            buckets=_CHANGE_BUCKETS,
            registry=registry,
        )
        self.checkpointed_events = counter("checkpointed_events", "Events made durable")
        self.waiting_users = gauge("waiting_users", "Users who wait for a refresh")
        self.refreshes_in_flight = gauge("refreshes_in_flight", "Users in a Refresh call")
        self.refresh_seconds = seconds("refresh", "One Refresh call")
        self.refreshes = counter("refreshes", "Answers of Refresh by status", "status")
        self.refresh_failures = counter("refresh_failures", "Failed Refresh calls", "reason")
        self.published = counter("published", "Records of rec.interests by tier", "tier")
        self.items = counter(
            "items", "Items: encoded, deleted, no_text, refused, garbage", "outcome"
        )
        self.catalogue_items = gauge("catalogue_items", "Items in memory")
        self.ambiguous_codes = counter("ambiguous_codes", "Look-ups of a hash that two items share")

    def checkpointed(self, duration_s: float, n_events: int, n_changes: int) -> None:
        self.checkpoint_seconds.observe(duration_s)
        self.checkpoint_changes.observe(n_changes)
        self.checkpointed_events.inc(n_events)
