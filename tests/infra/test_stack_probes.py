import http.server
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from infra.stack.probes import Probe, milvus_probe


@pytest.fixture
def silent_port():
    """A port that accepts connections and says nothing."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closed_port():
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
    return port


@pytest.mark.parametrize("kind", ["tcp", "grpc", "kafka"])
def test_nobody_there_is_unhealthy(kind, closed_port):
    assert not Probe(kind, f"127.0.0.1:{closed_port}").is_healthy(0.3)


@pytest.mark.parametrize("kind", ["grpc", "kafka"])
def test_an_open_port_alone_is_unhealthy(kind, silent_port):
    address = f"127.0.0.1:{silent_port}"

    assert Probe("tcp", address).is_healthy(0.3)
    assert not Probe(kind, address).is_healthy(0.3)


def test_an_address_without_a_port_is_unhealthy():
    assert not Probe("tcp", "nowhere").is_healthy(0.3)


@pytest.mark.parametrize(("status", "is_healthy"), [(200, True), (404, True), (503, False)])
def test_http_is_healthy_unless_the_server_itself_is_in_trouble(status, is_healthy):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.end_headers()

        def log_message(self, *words):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        found = Probe("http", f"http://127.0.0.1:{server.server_port}/").is_healthy()
        thread.join()

    assert found == is_healthy


@pytest.mark.parametrize("word", ["SERVING", "NOT_SERVING"])
def test_grpc_is_healthy_when_it_says_serving(word):
    servicer = health.HealthServicer()
    servicer.set("", health_pb2.HealthCheckResponse.ServingStatus.Value(word))
    server = grpc.server(ThreadPoolExecutor(max_workers=1))
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    found = Probe("grpc", f"127.0.0.1:{port}").is_healthy()
    server.stop(None).wait()

    assert found == (word == "SERVING")


@pytest.mark.parametrize(
    ("uri", "probe"),
    [
        ("http://127.0.0.1:19530", Probe("milvus", "127.0.0.1:19530")),
        ("http://milvus.example", Probe("milvus", "milvus.example:19530")),
        ("https://cloud.example", Probe("tcp", "cloud.example:443")),
    ],
)
def test_a_milvus_elsewhere_is_asked_as_its_uri_says(uri, probe):
    assert milvus_probe(uri) == probe
