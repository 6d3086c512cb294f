import socket
import ssl
import urllib.error
import urllib.request

import pytest
from pydantic import ValidationError

from infra.channels import aio_channel
from infra.doors import METRICS_NEEDS, check_door, check_own_way_in, is_loopback
from infra.grpc_server import GrpcServer
from infra.metrics import serve_metrics
from infra.settings import DoorSettings, describe
from infra.tls import client_context
from protos.errors import InvalidInput, NotReady
from tests.infra.certificates import Authority


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / "ours")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("[::]", False),
        ("", False),
        ("127.0.0.1.example", False),
    ],
)
def test_loopback_is_recognised(host, expected):
    assert is_loopback(host) is expected


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", ":0", "10.0.0.7:7051"])
def test_a_server_beyond_loopback_refuses_to_start_and_says_what_it_lacks(address):
    with pytest.raises(NotReady) as refused:
        GrpcServer(address, [], doors=DoorSettings())

    assert str(refused.value) == (
        f"{address} is beyond loopback and would let in whoever comes; set FRESHET_TLS_CERT and "
        "FRESHET_TLS_KEY and FRESHET_API_KEYS, or FRESHET_INSECURE=true"
    )


def test_tls_alone_or_keys_alone_are_not_enough(authority, tmp_path):
    with pytest.raises(NotReady, match="set FRESHET_API_KEYS, or"):
        check_door("0.0.0.0:1", DoorSettings(**authority.servers(tls_client_ca=authority.ca)))
    with pytest.raises(NotReady, match="set FRESHET_TLS_CERT and FRESHET_TLS_KEY, or"):
        check_door("0.0.0.0:1", DoorSettings(api_keys=tmp_path / "keys.toml"))


def test_both_are_enough_and_so_is_the_word(authority, tmp_path):
    check_door("0.0.0.0:1", DoorSettings(**authority.servers(api_keys=tmp_path / "keys.toml")))
    check_door("0.0.0.0:1", DoorSettings(insecure=True))
    check_door("127.0.0.1:1", DoorSettings())


async def test_servers_and_clients_read_the_environment(monkeypatch, authority):
    for name, value in (authority.servers() | authority.clients()).items():
        monkeypatch.setenv(f"FRESHET_{name}".upper(), str(value))
    server = GrpcServer("127.0.0.1:0", [])
    port = await server.start()
    await server.set_serving()
    async with aio_channel(f"localhost:{port}") as channel:
        await channel.channel_ready()
    await server.stop(grace_s=0)


@pytest.mark.parametrize("name", ["FRESHET_TLS_CRT", "FRESHET_API_KEYFILE"])
def test_a_misspelt_setting_leaves_no_door_open(monkeypatch, name):
    monkeypatch.setenv(name, "x")

    with pytest.raises(InvalidInput, match=f"unknown setting {name}"):
        DoorSettings.load()


@pytest.mark.parametrize(
    ("given", "lacking"),
    [
        ("tls_cert", "TLS_KEY"),
        ("tls_key", "TLS_CERT"),
        ("tls_client_ca", "TLS_CERT"),
        ("tls_client_key", "TLS_CLIENT_CERT"),
    ],
)
def test_a_half_is_refused_with_the_name_of_the_other(given, lacking):
    with pytest.raises(ValidationError) as refused:
        DoorSettings(**{given: "x.pem"})

    assert f"FRESHET_{given.upper()} needs FRESHET_{lacking} beside it" in describe(refused.value)


def test_a_key_is_not_shown_where_settings_are():
    assert "hush" not in repr(DoorSettings(api_key="hush"))


def test_a_key_that_no_header_can_carry_is_refused():
    with pytest.raises(ValidationError) as refused:
        DoorSettings(api_key="two\nlines")

    assert "api_key: Value error, give the one line" in describe(refused.value)
    assert "lines" not in str(refused.value)


def test_own_processes_are_not_shut_out(authority, tmp_path):
    with pytest.raises(NotReady, match=r"FRESHET_TLS_CERT shuts out .* set FRESHET_TLS_CA"):
        check_own_way_in(DoorSettings(**authority.servers()))
    with pytest.raises(NotReady, match="set FRESHET_API_KEY beside it"):
        check_own_way_in(DoorSettings(api_keys=tmp_path))
    check_own_way_in(DoorSettings(**authority.servers(tls_ca=authority.ca)))


def test_metrics_beyond_loopback_refuse_to_start():
    with pytest.raises(NotReady, match=r"set .* and FRESHET_TLS_CLIENT_CA, or FRESHET_INSECURE"):
        serve_metrics(0, host="0.0.0.0", doors=DoorSettings())


def test_metrics_beyond_loopback_are_for_who_shows_a_certificate(authority):
    doors = DoorSettings(**authority.servers(tls_client_ca=authority.ca))
    check_door("0.0.0.0:1", doors, METRICS_NEEDS)
    stop, port = _metrics(doors)
    try:
        with pytest.raises((urllib.error.URLError, ssl.SSLError, ConnectionError)):
            _get(port, DoorSettings(tls_ca=authority.ca))
        text = _get(port, DoorSettings(**authority.clients()))
    finally:
        stop()

    assert "freshet_event_loop_lag_seconds" in text


def _metrics(doors):
    with socket.create_server(("0.0.0.0", 0)) as free:
        port = free.getsockname()[1]
    return serve_metrics(port, host="0.0.0.0", doors=doors), port


def _get(port, doors):
    context = client_context(doors)
    with urllib.request.urlopen(f"https://127.0.0.1:{port}/metrics", context=context) as answer:
        return answer.read().decode()
