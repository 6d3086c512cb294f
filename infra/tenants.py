"""Every tenant that a message names, wherever in it.

A tenant is a field `tenant`; tests/contract/test_tenants.py holds the contract to that. What an
empty or an absent one means is what the services take it for:

    empty                           "default"
    empty, in a part of a message   the message's own, as an item of UpsertItems
      that has a tenant itself
    a part that is absent           as if it were there and empty: who reads `query.tenant` of no
                                    query gets "default" too
    an absent Receipt, or choice    names nobody
      of a oneof

How to look is worked out once a message type; a look costs a few microseconds, and about one more
for each part of a list.
"""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from protos.keys import DEFAULT_TENANT

_FIELD = "tenant"
_MAY_BE_ABSENT = frozenset({"rec.v1.Receipt"})


@dataclass(frozen=True, slots=True)
class _Part:
    """A field of messages that may name a tenant."""

    name: str
    is_repeated: bool
    is_map: bool
    may_be_absent: bool


def tenants_of(message: Message) -> Collection[str]:
    """Return the tenants that a message names; none for a type that has no place for one."""
    found: set[str] = set()
    _collect(message, found, inherits=False)
    return found


def _collect(message: Message, found: set[str], *, inherits: bool) -> None:
    has_tenant, parts = _places(message.DESCRIPTOR)
    if has_tenant:
        tenant = getattr(message, _FIELD)
        if tenant or not inherits:
            found.add(tenant or DEFAULT_TENANT)
        inherits = True
    for part in parts:
        value = getattr(message, part.name)
        if part.is_map:
            value = value.values()
        elif not part.is_repeated:
            if part.may_be_absent and not message.HasField(part.name):
                continue
            value = (value,)
        for one in value:
            _collect(one, found, inherits=inherits)


@cache
def _places(descriptor: Descriptor) -> tuple[bool, tuple[_Part, ...]]:
    """Return whether a message has a tenant of its own, and which parts may name others."""
    has_tenant = _FIELD in descriptor.fields_by_name
    return has_tenant, tuple(_part(f) for f in descriptor.fields if _leads_to_one(f, frozenset()))


def _part(field: FieldDescriptor) -> _Part:
    kind = field.message_type
    assert kind is not None
    return _Part(
        field.name,
        is_repeated=field.is_repeated,
        is_map=kind.GetOptions().map_entry,
        may_be_absent=kind.full_name in _MAY_BE_ABSENT or field.containing_oneof is not None,
    )


def _leads_to_one(field: FieldDescriptor, above: frozenset[str]) -> bool:
    """Whether messages of a field may name a tenant. `above`: types that are being looked at."""
    kind = field.message_type
    if kind is None or kind.full_name in above:
        return False
    if _FIELD in kind.fields_by_name:
        return True
    return any(_leads_to_one(inner, above | {kind.full_name}) for inner in kind.fields)
