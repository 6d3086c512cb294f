from infra.tenants import tenants_of
from protos.rec.v1.encoder_pb2 import GetModelInfoRequest, ItemText, RefreshRequest, UserState
from protos.rec.v1.events_pb2 import PublishRequest, PublishStreamRequest, Receipt
from protos.rec.v1.interests_pb2 import SeenSegment, UserInterests
from protos.rec.v1.items_pb2 import Item, UpsertItemsRequest
from protos.rec.v1.recommend_pb2 import (
    FeedQuery,
    GetUserRequest,
    PreviewFeedRequest,
    RecommendRequest,
)


def test_a_message_says_its_own_tenant():
    assert tenants_of(GetUserRequest(tenant="a")) == {"a"}


def test_an_empty_one_is_the_default():
    assert tenants_of(GetUserRequest()) == {"default"}


def test_parts_are_looked_into_however_deep():
    inner = PublishStreamRequest(publish=PublishRequest(tenant="a"))
    state = UserInterests(tenant="b")
    preview = PreviewFeedRequest(
        query=FeedQuery(tenant="a"), state=state, seen=[SeenSegment(tenant="c")]
    )

    assert tenants_of(inner) == {"a"}
    assert tenants_of(preview) == {"a", "b", "c"}


def test_each_of_many_counts():
    users = [UserState(tenant="a"), UserState(tenant="b")]
    request = RefreshRequest(users=users, items=[ItemText(tenant="c"), ItemText()])

    assert tenants_of(request) == {"a", "b", "c", "default"}


def test_an_item_without_a_tenant_is_the_requests():
    items = [Item(), Item(tenant="b")]

    assert tenants_of(UpsertItemsRequest(tenant="a", items=items)) == {"a", "b"}


def test_who_leaves_the_query_out_asks_for_the_default():
    assert tenants_of(RecommendRequest()) == {"default"}
    assert tenants_of(RecommendRequest(after=Receipt(tenant="a"))) == {"a", "default"}
    assert tenants_of(PublishStreamRequest()) == {"default"}


def test_a_receipt_that_is_not_there_names_nobody():
    query = FeedQuery(tenant="a")

    assert tenants_of(RecommendRequest(query=query)) == {"a"}
    assert tenants_of(RecommendRequest(query=query, after=Receipt())) == {"a", "default"}


def test_a_message_may_name_nobody():
    assert tenants_of(GetModelInfoRequest()) == set()
