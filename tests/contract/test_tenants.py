"""What lets infra/tenants.py find every tenant: how the contract names them."""

import json

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st

from infra.api_keys import ApiKey
from infra.tenants import tenants_of
from protos.rec.v1 import encoder_pb2, events_pb2, items_pb2, recommend_pb2
from tests.contract.random_messages import messages

SERVICES = [
    service
    for file in (encoder_pb2, events_pb2, items_pb2, recommend_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
]
METHODS = [method for service in SERVICES for method in service.methods]
REQUESTS = sorted({m.input_type.full_name: m.input_type for m in METHODS}.items())
KEY_OF_A = ApiKey("a", frozenset({"a"}))


def reachable(kind, found=None):
    found = {} if found is None else found
    if kind.full_name not in found:
        found[kind.full_name] = kind
        for field in kind.fields:
            if field.message_type is not None:
                reachable(field.message_type, found)
    return found


@pytest.mark.parametrize(("name", "kind"), REQUESTS)
def test_whatever_speaks_of_a_tenant_is_one_string_called_tenant(name, kind):
    for inner in reachable(kind).values():
        for field in inner.fields:
            if "tenant" in field.name.lower():
                assert (field.name, field.type, field.is_repeated) == (
                    "tenant",
                    field.TYPE_STRING,
                    False,
                )


def test_no_request_is_without_a_tenant_but_those_that_concern_none():
    without = {name for name, kind in REQUESTS if not any_tenant(kind)}

    assert without == {"rec.v1.GetModelInfoRequest"}


def any_tenant(kind):
    return any("tenant" in inner.fields_by_name for inner in reachable(kind).values())


@given(st.sampled_from(REQUESTS).flatmap(lambda named: messages(named[1], ["a", "b", ""])))
def test_a_key_of_one_tenant_never_gets_through_with_another_anywhere(request):
    # Another way to look: the message as JSON, empty fields too.
    text = json.dumps(MessageToDict(request, always_print_fields_with_no_presence=True))

    let_through = KEY_OF_A.may_act_for(tenants_of(request))

    assert not (let_through and '"tenant": "b"' in text)
    if '"tenant": "b"' not in text and '"tenant": ""' not in text:
        assert let_through or not has_every_part(request)


def has_every_part(message):
    """Whether nothing that names a tenant is left out, but a receipt."""
    for field in message.DESCRIPTOR.fields:
        kind = field.message_type
        if kind is None or field.is_repeated or not any_tenant(kind):
            continue
        if not message.HasField(field.name) and kind.name != "Receipt":
            return False
    return True
