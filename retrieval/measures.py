"""Prometheus metrics of retrieval.server."""

from prometheus_client import Counter, Gauge, Histogram

from infra.attribution import PairLabels
from infra.metrics import LATENCY_BUCKETS_S

ANSWER_SECONDS = Histogram(
    "freshet_retrieval_answer_seconds",
    "Time of one Recommend, without the wait for a receipt.",
    ["source"],
    buckets=LATENCY_BUCKETS_S,
)
RECEIPT_SECONDS = Histogram(
    "freshet_retrieval_receipt_wait_seconds",
    "Time that answers waited for a receipt.",
    ["met"],
    buckets=LATENCY_BUCKETS_S,
)
SEARCH_SECONDS = Histogram(
    "freshet_retrieval_search_seconds",
    "Time of one call of Milvus, which may be shared.",
    buckets=LATENCY_BUCKETS_S,
)
SEARCHES = Counter(
    "freshet_retrieval_searches_total", "Searches of feeds; deeper ones repeat.", ["outcome"]
)
SEARCH_QUERIES = Histogram(
    "freshet_retrieval_search_queries",
    "Interests that shared a Milvus search.",
    buckets=(4, 8, 16, 32, 64, 128),
)
PUSHES = Counter("freshet_retrieval_pushes_total", "Feeds pushed on open streams.", ["source"])
IMPRESSIONS = Counter(
    "freshet_retrieval_impressions_total",
    "Items answered, and items new in a pushed feed; previews are not counted.",
    ["scenario", "variant"],
)
PUSH_SECONDS = Histogram(
    "freshet_retrieval_push_seconds",
    "From the broker's append of an event to the push of the feed that it changed.",
    buckets=LATENCY_BUCKETS_S,
)
HOP_SECONDS = Histogram(
    "freshet_retrieval_hop_seconds",
    "Time from the hop before to this one, of pushed feeds.",
    ["hop"],
    buckets=LATENCY_BUCKETS_S,
)
OPEN_FEEDS = Gauge("freshet_retrieval_open_feeds", "Streams open now.")
REFUSED_RECORDS = Counter(
    "freshet_retrieval_refused_records_total",
    "Records of followed topics that could not be used.",
    ["topic", "reason"],
)
STALE_RECORDS = Counter(
    "freshet_retrieval_stale_records_total",
    "Records of users that came behind what is known already.",
)
CACHE_BYTES = Gauge("freshet_retrieval_cache_bytes", "Memory of a cache.", ["cache"])
CACHE_ENTRIES = Gauge("freshet_retrieval_cache_entries", "Entries of a cache.", ["cache"])
LAG_SECONDS = Gauge(
    "freshet_retrieval_lag_seconds", "Age of the newest record when it was applied.", ["topic"]
)
INDEXED = Counter("freshet_retrieval_indexed_items_total", "Items written to Milvus.", ["change"])
OVERLOADED = Counter("freshet_retrieval_overloaded_total", "Requests turned away.", ["what"])
ATTRIBUTES_BEYOND = Counter(
    "freshet_retrieval_attributes_beyond_total",
    "Names of attributes that came when their tenant had as many as filters may name.",
)


class Impressions:
    """Counts items that were shown, by what their query says of itself."""

    def __init__(self) -> None:
        self._labels = PairLabels()

    def count(self, scenario: str, variant: str, n_items: int) -> None:
        if n_items:
            IMPRESSIONS.labels(*self._labels.of(scenario, variant)).inc(n_items)
