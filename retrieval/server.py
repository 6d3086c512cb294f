"""The process that answers with feeds: `python -m retrieval.server`.

It follows the topics into its store, serves RecommendService, and says SERVING once it has caught
up with what stood in the topics at its start. Milvus may come later: until then it answers from
what is trending.
"""

import asyncio
import sys
import threading
from collections.abc import Callable
from functools import partial

import structlog

from infra.grpc_server import GrpcServer
from infra.kafka_follower import Follower, Handler
from infra.kafka_topics import Topics, ensure_topics
from infra.metrics import serve_metrics
from infra.process import catch_signals, process
from infra.settings import SharedSettings
from protos.errors import FreshetError
from retrieval.catalogue import Catalogue
from retrieval.changes import Changes, trending_key
from retrieval.indexer import Indexer
from retrieval.interests import UserCache
from retrieval.measures import CACHE_BYTES, CACHE_ENTRIES
from retrieval.milvus.index import ItemIndex
from retrieval.milvus.writer import ItemWriter
from retrieval.new_items import NewItems
from retrieval.open_feeds import KafkaNotes, OpenFeeds
from retrieval.pages import PageTokens
from retrieval.personal import PersonalFeeds
from retrieval.provenance import cluster_of, keep_or_clear
from retrieval.receipts import KafkaLogEnd, Receipts
from retrieval.recommend import Recommender
from retrieval.service import MAX_REQUEST_BYTES, Limits, RecommendServicer, recommend_service
from retrieval.sessions import EncoderSessions
from retrieval.settings import RetrievalSettings
from retrieval.store import Store
from retrieval.trending import TrendingBoard

log = structlog.get_logger(__name__)

POLL_MS = 500
READY_POLL_S = 0.05
MEASURE_S = 5.0
WARM_UP_S = 10.0


class Replica:
    """All parts of the process. Made on its event loop; `run` serves until a signal."""

    def __init__(self, shared: SharedSettings, settings: RetrievalSettings) -> None:
        self._shared, self._settings = shared, settings
        self._topics = Topics(shared.topic_prefix)
        self._store = Store(shared.state / "retrieval" / shared.topic_prefix)
        self._changes = Changes()
        n_bytes = settings.cache_mib * 2**20
        self._users = UserCache(
            self._store, max_bytes=n_bytes // 2, on_change=self._changes.announce
        )
        self._catalogue = Catalogue(self._store, max_bytes=n_bytes // 2)
        self._trending = TrendingBoard(
            self._store,
            on_change=lambda tenants: self._changes.announce(map(trending_key, tenants)),
        )
        prefix = settings.collection_prefix or shared.topic_prefix
        self._index = ItemIndex(
            shared.milvus_uri, prefix, timeout_s=settings.milvus_timeout_ms / 1000
        )
        self._writer = ItemWriter(shared.milvus_uri, prefix)
        self._sessions = EncoderSessions(shared.encoders)
        self._log_end = KafkaLogEnd(shared.kafka_bootstrap, self._topics.events)
        self._notes = KafkaNotes(
            shared.kafka_bootstrap, self._topics.open_feeds, shared.n_partitions
        )
        self._open_feeds = OpenFeeds(self._notes)
        self._loop, self._failed = asyncio.get_running_loop(), asyncio.Event()
        self._stopping = threading.Event()

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT; return the exit code."""
        signalled = catch_signals()
        await asyncio.to_thread(self._prepare_log)
        servicer = self._servicer()
        services = [recommend_service(servicer)]
        server = GrpcServer(self._settings.listen, services, max_request_bytes=MAX_REQUEST_BYTES)
        await server.start()
        followers, indexer = self._followers(), self._indexer()
        for follower in followers:
            follower.start()
        if indexer is not None:
            indexer.start()
        background = [
            asyncio.create_task(self._open_feeds.renew_forever()),
            asyncio.create_task(self._measure_forever()),
            asyncio.create_task(self._serve_when_ready(server, followers, indexer)),
        ]
        failed = asyncio.create_task(self._failed.wait())
        await asyncio.wait((signalled, failed), return_when=asyncio.FIRST_COMPLETED)
        self._stopping.set()
        for task in (*background, failed):
            task.cancel()
        await servicer.close()
        await server.stop()
        await self._close(followers, indexer)
        return 1 if self._failed.is_set() else 0

    def _prepare_log(self) -> None:
        bootstrap, n_partitions = self._shared.kafka_bootstrap, self._shared.n_partitions
        ensure_topics(bootstrap, self._topics, n_partitions=n_partitions)
        followed = [self._topics.interests, self._topics.seen, self._topics.trending]
        keep_or_clear(self._store, bootstrap, followed)

    def _servicer(self) -> RecommendServicer:
        settings = self._settings
        recommender = Recommender(
            self._users,
            self._catalogue,
            self._trending,
            self._index,
            self._sessions,
            PersonalFeeds(
                self._index,
                self._catalogue,
                NewItems(self._store, self._catalogue, max_age_days=settings.new_item_days),
                search_timeout_s=settings.milvus_timeout_ms / 1000,
                new_share=settings.new_item_share,
            ),
        )
        return RecommendServicer(
            self._users,
            self._catalogue,
            recommender,
            Receipts(self._users, self._changes, self._log_end),
            self._changes,
            self._open_feeds,
            PageTokens(self._page_secret()),
            Limits(
                settings.default_deadline_ms / 1000,
                settings.max_in_flight,
                settings.max_open_feeds,
                self._shared.n_partitions,
                settings.seen_rules,
            ),
        )

    def _page_secret(self) -> bytes:
        given = self._settings.page_secret.get_secret_value().encode()
        return given or cluster_of(self._store) + self._shared.topic_prefix.encode()

    def _followers(self) -> list[Follower]:
        topics, users = self._topics, self._users
        handlers: list[tuple[str, Callable[..., None], str]] = [
            (topics.seen, users.apply_seen, topics.seen),
            (topics.interests, users.apply_interests, topics.interests),
            (topics.trending, self._trending.apply, topics.trending),
            (topics.item_vectors, self._catalogue.apply, f"catalogue:{topics.item_vectors}"),
        ]
        return [
            self._follower(topic, partial(apply, topic), self._fail, self._store.next_offsets(row))
            for topic, apply, row in handlers
        ]

    def _indexer(self) -> Indexer | None:
        if not self._settings.index:
            return None
        topic = self._topics.item_vectors
        return Indexer(self._writer, self._store, topic, partial(self._follower, topic))

    def _follower(
        self,
        topic: str,
        handle: Handler,
        on_failure: Callable[[BaseException], None],
        start_at: dict[int, int],
    ) -> Follower:
        return Follower(
            self._shared.kafka_bootstrap,
            topic,
            handle,
            on_failure=on_failure,
            start_at=start_at,
            poll_ms=POLL_MS,
        )

    def _fail(self, error: BaseException) -> None:
        """End the process: a replica that no longer follows would serve the past for ever."""
        self._loop.call_soon_threadsafe(self._failed.set)

    async def _serve_when_ready(
        self, server: GrpcServer, followers: list[Follower], indexer: Indexer | None
    ) -> None:
        """Say SERVING once all topics are applied; the index is waited for while Milvus is up."""

        def is_ready() -> bool:
            has_read = all(follower.caught_up.is_set() for follower in followers)
            return has_read and (indexer is None or indexer.is_ready)

        def wait() -> None:
            while not is_ready() and not self._stopping.wait(READY_POLL_S):
                pass

        await asyncio.to_thread(wait)
        try:
            await self._index.warm_up(WARM_UP_S)
        except FreshetError as error:
            log.warning("serving_without_index", message=str(error))
        await server.set_serving()

    async def _measure_forever(self) -> None:
        while True:
            for name, n_bytes, n_entries in (
                ("users", self._users.users.size, len(self._users.users)),
                ("closed_seen", self._users.closed.size, len(self._users.closed)),
                ("items", self._catalogue.items.size, len(self._catalogue.items)),
            ):
                CACHE_BYTES.labels(name).set(n_bytes)
                CACHE_ENTRIES.labels(name).set(n_entries)
            await asyncio.sleep(MEASURE_S)

    async def _close(self, followers: list[Follower], indexer: Indexer | None) -> None:
        def stop() -> None:
            for follower in followers:
                follower.stop()
            if indexer is not None:
                indexer.stop()
            self._writer.close()
            self._notes.close()
            self._store.close()

        await asyncio.to_thread(stop)
        await self._index.close()
        await self._sessions.close()
        await self._log_end.close()


async def serve(shared: SharedSettings, settings: RetrievalSettings) -> int:
    return await Replica(shared, settings).run()


def main() -> None:
    """Read settings, serve, drain on SIGTERM."""
    with process("retrieval", RetrievalSettings) as (shared, settings):
        stop_metrics = serve_metrics(settings.metrics_port)
        code = asyncio.run(serve(shared, settings))
        stop_metrics()
        sys.exit(code)


if __name__ == "__main__":
    main()
