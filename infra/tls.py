"""Certificates: what our servers show and ask for, and what our clients trust and show.

Files are read, and seen to fit together, once, when a server or a channel is made: gRPC itself
says little about a key that is not the certificate's.
"""

import ssl
from pathlib import Path

import grpc

from infra.settings import DoorSettings
from protos.errors import NotReady


def check_certificate(doors: DoorSettings) -> None:
    """Raise NotReady when the certificate that servers show, if any, cannot be used."""
    if doors.tls_cert and doors.tls_key:
        _check_pair(doors.tls_cert, doors.tls_key, "FRESHET_TLS_CERT", "FRESHET_TLS_KEY")


def server_credentials(doors: DoorSettings) -> grpc.ServerCredentials | None:
    """Return what a gRPC server needs; None without TLS. Raises NotReady."""
    check_certificate(doors)
    if doors.tls_cert is None or doors.tls_key is None:
        return None
    pair = (doors.tls_key.read_bytes(), doors.tls_cert.read_bytes())
    if doors.tls_client_ca is None:
        return grpc.ssl_server_credentials([pair])
    _check_authority(doors.tls_client_ca, "FRESHET_TLS_CLIENT_CA")
    return grpc.ssl_server_credentials(
        [pair], root_certificates=doors.tls_client_ca.read_bytes(), require_client_auth=True
    )


def channel_credentials(doors: DoorSettings) -> grpc.ChannelCredentials | None:
    """Return what a gRPC channel needs; None without TLS. Raises NotReady."""
    if doors.tls_ca is None:
        return None
    client_context(doors)  # every file is checked there
    return grpc.ssl_channel_credentials(
        doors.tls_ca.read_bytes(),
        doors.tls_client_key.read_bytes() if doors.tls_client_key else None,
        doors.tls_client_cert.read_bytes() if doors.tls_client_cert else None,
    )


def client_context(doors: DoorSettings) -> ssl.SSLContext:
    """Return the same for HTTP; what the system trusts when no authority is set. Raises
    NotReady."""
    if doors.tls_ca is None:
        return ssl.create_default_context()
    context = _check_authority(doors.tls_ca, "FRESHET_TLS_CA")
    if doors.tls_client_cert and doors.tls_client_key:
        names = ("FRESHET_TLS_CLIENT_CERT", "FRESHET_TLS_CLIENT_KEY")
        _check_pair(doors.tls_client_cert, doors.tls_client_key, *names)
        context.load_cert_chain(doors.tls_client_cert, doors.tls_client_key)
    return context


def _check_authority(path: Path, name: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=path)
    except (OSError, ssl.SSLError) as error:
        raise NotReady(f"{name}: {path} holds no certificate that can be read ({error})") from error


def _check_pair(cert: Path, key: Path, cert_name: str, key_name: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        # Without a password OpenSSL would ask the terminal for that of an encrypted key.
        context.load_cert_chain(cert, key, password="")
    except (OSError, ssl.SSLError) as error:
        raise NotReady(
            f"{cert_name} ({cert}) and {key_name} ({key}) are no certificate with its unencrypted "
            f"key ({error})"
        ) from error
