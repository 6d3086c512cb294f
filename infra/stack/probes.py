"""Is a service there, and does it answer in its own protocol?

An open port is not enough: a broker listens before it leads its partitions, a gRPC server while it
loads its model.
"""

import socket
import struct
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

import grpc
from grpc_health.v1 import health_pb2

from infra.channels import sync_channel
from infra.settings import DoorSettings
from infra.tls import client_context

TIMEOUT_S = 2.0
_METADATA_VERSION = 5  # known to every Kafka since 1.0
_MAX_ANSWER_BYTES = 2**20

Kind = Literal["kafka", "grpc", "milvus", "http", "tcp"]
"""gRPC health as our servers answer it, by TLS where DoorSettings says so, and as Milvus does."""


@dataclass(frozen=True, slots=True)
class Probe:
    """How to ask a service whether it is healthy."""

    kind: Kind
    target: str
    """host:port; for kind "http" a URL."""

    def is_healthy(self, timeout_s: float = TIMEOUT_S) -> bool:
        """Ask once, for little longer than `timeout_s`. Raises only NotReady and what
        DoorSettings.load raises: settings that no answer would mend."""
        match self.kind:
            case "http":
                return _answers_http(self.target, timeout_s)
            case "grpc":
                return _accepts(self.target, timeout_s) and _serves(
                    sync_channel(self.target), timeout_s
                )
            case "milvus":
                return _accepts(self.target, timeout_s) and _serves(
                    grpc.insecure_channel(self.target), timeout_s
                )
            case "kafka":
                return _knows_brokers(self.target, timeout_s)
            case "tcp":
                return _accepts(self.target, timeout_s)


def milvus_probe(uri: str) -> Probe:
    """Return how to ask a Milvus at this URI. One behind TLS is only asked for its port: gRPC
    health there may want credentials that are not ours to hold."""
    parts = urlsplit(uri)
    port = parts.port or (443 if parts.scheme == "https" else 19530)
    return Probe("tcp" if parts.scheme == "https" else "milvus", f"{parts.hostname}:{port}")


def _accepts(address: str, timeout_s: float) -> bool:
    try:
        with _connected(address, timeout_s):
            return True
    except (OSError, ValueError):
        return False


def _connected(address: str, timeout_s: float) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout_s)


def _serves(channel: grpc.Channel, timeout_s: float) -> bool:
    with channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            reply = check(health_pb2.HealthCheckRequest(), timeout=timeout_s)
        except grpc.RpcError:
            return False
    return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)


def _answers_http(url: str, timeout_s: float) -> bool:
    try:
        context = client_context(DoorSettings.load()) if url.startswith("https:") else None
        with urllib.request.urlopen(url, timeout=timeout_s, context=context):
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return error.code < 500
    except (OSError, ValueError):
        return False


def _knows_brokers(bootstrap: str, timeout_s: float) -> bool:
    return any(_lists_brokers(address.strip(), timeout_s) for address in bootstrap.split(","))


def _lists_brokers(address: str, timeout_s: float) -> bool:
    """Ask for metadata on a socket of our own: kafka-python's clients wait and retry inside their
    constructors, and leave sockets behind when that fails. A broker lists itself once it serves.
    """
    # Imported here: `freshet down` and the guard need no Kafka client.
    from kafka.protocol.metadata import MetadataRequest, MetadataResponse

    request = MetadataRequest(version=_METADATA_VERSION, topics=[], allow_auto_topic_creation=False)
    request.with_header(correlation_id=1, client_id="freshet-probe")
    try:
        with _connected(address, timeout_s) as connection, connection.makefile("rb") as answers:
            connection.sendall(request.encode(header=True, framed=True))
            (n_bytes,) = struct.unpack(">i", answers.read(4))
            answer = answers.read(min(n_bytes, _MAX_ANSWER_BYTES))
        decoded = MetadataResponse.decode(answer, version=_METADATA_VERSION, header=True)
    except (OSError, ValueError, struct.error):
        return False
    return bool(decoded.brokers)
