"""Random messages of any type of the contract, for hypothesis."""

from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

TEXT = st.text(st.characters(codec="utf-8"), max_size=4)


def messages(kind, tenants, *, depth=4):
    """Draw messages of a type; every field `tenant` is one of `tenants`."""
    fields = {field.name: _values(field, tenants, depth) for field in kind.fields}
    optional = {name: values for name, values in fields.items() if values is not None}
    return st.fixed_dictionaries({}, optional=optional).map(lambda kw: _make(kind, kw))


def _make(kind, fields):
    message = GetMessageClass(kind)()
    for field in kind.fields:
        if field.name in fields:
            value = fields[field.name]
            if (
                field.is_repeated
                and field.message_type
                and field.message_type.GetOptions().map_entry
            ):
                for entry in value:
                    _put(getattr(message, field.name), entry)
            elif field.is_repeated:
                getattr(message, field.name).extend(value)
            elif field.message_type is not None:
                getattr(message, field.name).CopyFrom(value)
            else:
                setattr(message, field.name, value)
    return message


def _put(mapping, entry):
    value_field = entry.DESCRIPTOR.fields_by_name["value"]
    if value_field.message_type is not None:
        mapping[entry.key].CopyFrom(entry.value)
    else:
        mapping[entry.key] = entry.value


def _values(field, tenants, depth):
    one = _one(field, tenants, depth)
    if one is None or not field.is_repeated:
        return one
    return st.lists(one, max_size=3)


def _one(field, tenants, depth):
    if field.name == "tenant":
        return st.sampled_from(tenants)
    if field.message_type is not None:
        return messages(field.message_type, tenants, depth=depth - 1) if depth else None
    return {
        field.CPPTYPE_STRING: TEXT if field.type == field.TYPE_STRING else st.binary(max_size=8),
        field.CPPTYPE_BOOL: st.booleans(),
        field.CPPTYPE_ENUM: st.integers(0, 3),
        field.CPPTYPE_INT32: st.integers(-9, 9),
        field.CPPTYPE_INT64: st.integers(-9, 9),
        field.CPPTYPE_UINT32: st.integers(0, 9),
        field.CPPTYPE_UINT64: st.integers(0, 9),
        field.CPPTYPE_FLOAT: st.floats(-1, 1, width=32),
        field.CPPTYPE_DOUBLE: st.floats(-1, 1),
    }[field.cpp_type]
