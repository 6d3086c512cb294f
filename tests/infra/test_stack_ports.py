import socket
from contextlib import closing

import pytest

from infra.stack.ports import FALLBACK, PortReservations, is_free


@pytest.fixture
def folder(tmp_path):
    return tmp_path


def listener() -> socket.socket:
    server = socket.create_server(("127.0.0.1", 0))
    return server


def free_port() -> int:
    with closing(listener()) as server:
        return server.getsockname()[1]


def test_a_free_wish_comes_true(folder):
    port = free_port()

    with PortReservations("a", folder) as ports:
        assert ports.choose("kafka", port) == port


def test_a_taken_wish_becomes_another_free_port(folder):
    with closing(listener()) as server, PortReservations("a", folder) as ports:
        chosen = ports.choose("kafka", server.getsockname()[1])

    assert chosen in FALLBACK
    assert is_free(chosen)


def test_a_port_on_all_interfaces_is_taken_too():
    with closing(socket.create_server(("", 0))) as server:
        assert not is_free(server.getsockname()[1])


def test_a_port_whose_connections_have_just_ended_is_free():
    with closing(listener()) as server:
        port = server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        accepted, _ = server.accept()
        accepted.close()  # the server's side closes first and keeps TIME_WAIT
        client.close()

    assert is_free(port)


def test_without_a_wish_a_folder_gets_the_same_port_again(folder):
    with PortReservations("a", folder) as ports:
        first = ports.choose("milvus-metrics")
    with PortReservations("a", folder) as ports:
        again = ports.choose("milvus-metrics")

    assert again == first


def test_two_starts_at_the_same_moment_do_not_choose_alike(folder):
    wish = free_port()

    with PortReservations("a", folder) as ours, PortReservations("b", folder) as theirs:
        assert ours.choose("kafka", wish) == wish
        assert theirs.choose("kafka", wish) != wish


def test_one_start_does_not_give_a_port_twice(folder):
    wish = free_port()

    with PortReservations("a", folder) as ports:
        assert len({ports.choose("one", wish), ports.choose("two", wish)}) == 2


def test_a_reservation_ends_with_its_block(folder):
    wish = free_port()
    with PortReservations("a", folder) as ports:
        ports.choose("kafka", wish)

    with PortReservations("b", folder) as ports:
        assert ports.choose("kafka", wish) == wish
