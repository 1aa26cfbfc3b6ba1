"""Ports: the wanted one, a neighbour, any; and never one port twice."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from serve_app.house.ports import PortError, PortReservation


@pytest.fixture
def reservation() -> Iterator[PortReservation]:
    with PortReservation() as reservation:
        yield reservation


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_free_wanted_port_is_given_without_a_word(
    reservation: PortReservation, taken_port: int
) -> None:
    with PortReservation() as finder:
        free = finder.choose("finder").port
    choice = reservation.choose("HTTP", wanted=free)
    assert (choice.port, choice.sentence) == (free, "")
    assert choice.port != taken_port


def test_a_taken_port_is_replaced_and_the_sentence_names_both(
    reservation: PortReservation, taken_port: int
) -> None:
    choice = reservation.choose("HTTP", wanted=taken_port)
    assert choice.port != taken_port
    assert choice.sentence == f"Port {taken_port} (HTTP) was taken; using {choice.port} instead."


def test_a_port_taken_on_all_addresses_is_taken_on_loopback_too(
    reservation: PortReservation,
) -> None:
    with socket.create_server(("0.0.0.0", 0)) as listener:
        port = listener.getsockname()[1]
        assert reservation.choose("HTTP", wanted=port).port != port


def test_a_port_taken_on_loopback_is_taken_on_all_addresses_too(
    reservation: PortReservation, taken_port: int
) -> None:
    assert reservation.choose("HTTP", wanted=taken_port, host="0.0.0.0").port != taken_port


def test_one_reservation_never_gives_a_port_twice(reservation: PortReservation) -> None:
    first = reservation.choose("HTTP")
    same_wish = reservation.choose("metrics", wanted=first.port)
    others = [reservation.choose(f"other {number}").port for number in range(50)]
    ports = [first.port, same_wish.port, *others]
    assert len(set(ports)) == len(ports)


def test_two_reservations_never_give_the_same_port() -> None:
    with PortReservation() as mine, PortReservation() as yours:
        port = mine.choose("HTTP").port
        assert yours.choose("HTTP", wanted=port).port != port


def test_a_released_port_can_be_listened_on(reservation: PortReservation) -> None:
    port = reservation.choose("HTTP").port
    reservation.release()
    with socket.create_server(("127.0.0.1", port)) as listener:
        assert listener.getsockname()[1] == port


def test_a_port_whose_last_connection_is_still_closing_is_free(
    reservation: PortReservation,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            # The side that closes first keeps the address in TIME_WAIT.
            listener.accept()[0].close()
            assert client.recv(1) == b""
    assert reservation.choose("HTTP", wanted=port).port == port


def test_an_address_of_another_machine_is_an_error_that_names_it(
    reservation: PortReservation,
) -> None:
    with pytest.raises(PortError, match=r"cannot listen on 203\.0\.113\.7 .*no such address"):
        reservation.choose("HTTP", wanted=8000, host="203.0.113.7")
