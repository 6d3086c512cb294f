import subprocess

import pytest

from infra.grpc_server import GrpcServer
from infra.settings import DoorSettings
from infra.tls import channel_credentials, server_credentials
from protos.errors import NotReady
from tests.infra.certificates import Authority


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / "ours")


def test_a_key_of_another_certificate_is_refused_before_anything_listens(authority):
    cert, _ = authority.pair("a")
    _, key = authority.pair("b")

    with pytest.raises(NotReady, match=r"FRESHET_TLS_CERT .*a\.pem.* FRESHET_TLS_KEY .*b-key\.pem"):
        GrpcServer("127.0.0.1:0", [], doors=DoorSettings(tls_cert=cert, tls_key=key))


def test_an_encrypted_key_is_refused(authority, tmp_path):
    cert, key = authority.pair("a")
    locked = tmp_path / "locked.pem"
    command = ["openssl", "pkcs8", "-topk8", "-in", key, "-out", locked, "-passout", "pass:secret"]
    subprocess.run(command, check=True)

    with pytest.raises(NotReady, match="unencrypted"):
        server_credentials(DoorSettings(tls_cert=cert, tls_key=locked))


def test_a_file_that_is_not_there_is_named(authority, tmp_path):
    missing = tmp_path / "missing.pem"

    with pytest.raises(NotReady, match=r"FRESHET_TLS_CA: .*missing\.pem"):
        channel_credentials(DoorSettings(tls_ca=missing))
    with pytest.raises(NotReady, match=r"FRESHET_TLS_CLIENT_CA: .*missing\.pem"):
        server_credentials(DoorSettings(**authority.servers(tls_client_ca=missing)))


def test_a_client_is_told_of_a_key_that_is_not_its_certificates(authority):
    cert, _ = authority.pair("a")
    _, key = authority.pair("b")
    doors = DoorSettings(tls_ca=authority.ca, tls_client_cert=cert, tls_client_key=key)

    with pytest.raises(NotReady, match="FRESHET_TLS_CLIENT_KEY"):
        channel_credentials(doors)
