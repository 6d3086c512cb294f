from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

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


def test_shapes_that_our_messages_do_not_have_yet():
    outer = made_up()

    def tenants(**fields):
        return set(tenants_of(outer(**{"must": {}} | fields)))

    assert tenants(must={"leaf": {"tenant": "a"}}) == {"a"}
    assert tenants() == {"default"}
    assert tenants(must={"leaf": {"tenant": "a"}}, by_name={"k": {"tenant": "b"}}) == {"a", "b"}
    assert tenants(must={"leaf": {"tenant": "a"}}, one={"tenant": "c"}) == {"a", "c"}
    assert tenants(must={"leaf": {"tenant": "a"}}, again=[{"must": {"leaf": {"tenant": "d"}}}]) == {
        "a",
        "d",
    }


def made_up():
    """Return a type with a tenant two messages deep, in a map, in a oneof, and within itself."""
    file = descriptor_pb2.FileDescriptorProto(name="made_up.proto", package="m", syntax="proto3")
    text, message = descriptor_pb2.FieldDescriptorProto.TYPE_STRING, 11
    leaf = file.message_type.add(name="Leaf")
    leaf.field.add(name="tenant", number=1, type=text, label=1)
    middle = file.message_type.add(name="Middle")
    middle.field.add(name="leaf", number=1, type=message, type_name=".m.Leaf", label=1)
    outer = file.message_type.add(name="Outer")
    outer.oneof_decl.add(name="choice")
    outer.field.add(name="again", number=3, type=message, type_name=".m.Outer", label=3)
    outer.field.add(name="must", number=1, type=message, type_name=".m.Middle", label=1)
    outer.field.add(name="one", number=2, type=message, type_name=".m.Leaf", label=1, oneof_index=0)
    entry = outer.nested_type.add(name="ByNameEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=text, label=1)
    entry.field.add(name="value", number=2, type=message, type_name=".m.Leaf", label=1)
    outer.field.add(
        name="by_name", number=4, type=message, type_name=".m.Outer.ByNameEntry", label=3
    )
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("m.Outer"))
