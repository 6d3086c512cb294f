"""One event's whole way, in through the gateway and out in a feed, as a sign that all is back."""

import uuid

import grpc

from infra.channels import sync_channel
from infra.endpoints import Endpoints
from protos.rec.v1.events_pb2 import Event, PublishRequest, Receipt
from protos.rec.v1.events_pb2_grpc import EventServiceStub
from protos.rec.v1.recommend_pb2 import SOURCE_REFINED, FeedQuery, RecommendRequest
from protos.rec.v1.recommend_pb2_grpc import RecommendServiceStub
from stream.bench.acknowledged import RECONNECT, Acknowledged

USER_ID = "canary"
N_ITEMS = 10
_CALL_S = 2.0


class Canary:
    """Publishes an event and asks for a feed that includes it, a step at a time."""

    def __init__(self, endpoints: Endpoints, item_id: str, acknowledged: Acknowledged) -> None:
        addresses = (endpoints.gateway, endpoints.retrieval)
        self._channels = [sync_channel(address, RECONNECT) for address in addresses]
        self._events = EventServiceStub(self._channels[0])
        self._feeds = RecommendServiceStub(self._channels[1])
        self._item_id, self._acknowledged = item_id, acknowledged
        self._event = Event()
        self._receipt: Receipt | None = None

    def begin(self) -> None:
        """Take a new event; what became of the one before does not count any more."""
        self._event = Event(event_id=str(uuid.uuid4()), item_id=self._item_id, action="click")
        self._receipt = None

    def is_heard(self) -> bool:
        """Go on from where the last call came to; True once a full, refined feed has the event."""
        try:
            if self._receipt is None:
                request = PublishRequest(user_id=USER_ID, events=[self._event])
                self._receipt = self._events.Publish(request, timeout=_CALL_S).receipt
                self._acknowledged.add(USER_ID, [self._event])
            query = FeedQuery(user_id=USER_ID, n=N_ITEMS)
            wanted = RecommendRequest(query=query, after=self._receipt)
            feed = self._feeds.Recommend(wanted, timeout=_CALL_S).feed
        except grpc.RpcError:
            return False
        is_best = feed.includes_receipt and feed.source == SOURCE_REFINED
        return is_best and len(feed.items) == N_ITEMS

    def close(self) -> None:
        for channel in self._channels:
            channel.close()
