"""What reading from Milvus and writing to it have in common: names of collections, and its errors,
which become ours here.

One collection a model version, freshet_<prefix>_<version>: vectors of different versions never meet
in one search. The version itself stands in the collection's description, so names may be squeezed
into what Milvus allows.
"""

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
import xxhash
from pymilvus.exceptions import MilvusException

from protos.errors import DependencyDown, FreshetError, NotReady, VersionMismatch

_NOT_FOUND, _NOT_LOADED = 100, 101


class MissingCollection(NotReady):
    """No items of this model version are in Milvus (yet)."""


class WrongDimension(VersionMismatch):
    """Vectors of another length than the collection's."""


class MilvusRefused(FreshetError):
    """Milvus answered, and said no: sending the same again does not help."""


@dataclass(frozen=True, slots=True)
class Collection:
    name: str
    model_version: str
    dim: int
    uid: int
    """Milvus's own id: another one means that the collection was made anew, empty."""


def collection_name(prefix: str, model_version: str) -> str:
    """Return a name that Milvus allows; different for different versions."""
    return f"freshet_{_squeezed(prefix)}_{_squeezed(model_version)}"


def _squeezed(text: str) -> str:
    if re.fullmatch(r"[a-zA-Z0-9_]{0,100}", text):
        return text
    return f"{re.sub(r'[^a-zA-Z0-9_]', '_', text)[:80]}_{xxhash.xxh32_hexdigest(text.encode())}"


def described_collection(described: Mapping[str, object]) -> Collection | None:
    fields = described["fields"]
    assert isinstance(fields, list)
    for field in fields:
        if field["name"] == "vector":
            return Collection(
                str(described["collection_name"]),
                str(described["description"]),
                int(field["params"]["dim"]),
                int(str(described["collection_id"])),
            )
    return None


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Raise ours for errors of Milvus and of the way to it. `what` it did not do."""
    try:
        yield
    except (TimeoutError, grpc.RpcError, OSError) as error:
        raise DependencyDown(f"Milvus did not {what}: {str(error) or 'timeout'}") from error
    except MilvusException as error:
        raise _translate(error, what) from error


def _translate(error: MilvusException, what: str) -> FreshetError:
    message = f"Milvus did not {what}: {error.message or error}"
    if error.code == _NOT_FOUND:
        return MissingCollection(message)
    if error.code == _NOT_LOADED:
        return DependencyDown(message)
    # Codes 1 to 99 are the server's own state or the client's connection, 65535 its catch-all.
    if isinstance(error.code, int) and 1100 <= error.code < 65535:
        return MilvusRefused(message)
    if error.code == 65535 and ("dimension" in message or "cannot parse" in message):
        return MilvusRefused(message)
    return DependencyDown(message)


def silence_pymilvus() -> None:
    # pymilvus logs each failed call with a stack trace; ours says it once.
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
