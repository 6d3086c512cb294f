"""Is there a Kafka? Asked of the socket, before any client is made."""

import socket
import time

from protos.errors import DependencyDown, InvalidInput


def await_broker(bootstrap: str, timeout_s: float) -> None:
    """Wait until one of the addresses takes connections.

    kafka-python could wait as well, but leaks its sockets when it gives up.

    Raises:
        InvalidInput: an address is no host:port.
        DependencyDown: none took a connection in time.
    """
    addresses = [_split_address(one) for one in bootstrap.split(",")]
    ends_at = time.monotonic() + timeout_s
    while True:
        for address in addresses:
            try:
                socket.create_connection(address, timeout=max(0.1, timeout_s / 4)).close()
                return
            except OSError as error:
                refusal = error
        if time.monotonic() >= ends_at:
            raise unreachable(bootstrap, refusal) from refusal
        time.sleep(0.1)


def unreachable(bootstrap: str, error: Exception) -> DependencyDown:
    """Return the error for a Kafka that is not there."""
    return DependencyDown(f"Kafka at {bootstrap} does not answer; is it up? ({error})")


def _split_address(address: str) -> tuple[str, int]:
    host, _, port = address.strip().rpartition(":")
    if not host or not port.isdecimal():
        raise InvalidInput(f"Kafka's address {address!r} is no host:port, e.g. 127.0.0.1:9092")
    return host.strip("[]"), int(port)
