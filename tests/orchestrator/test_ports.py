from __future__ import annotations

import os
import socket

import pytest

from mesh.errors import PortTaken
from mesh.orchestrator.ports import Listener, held


@pytest.fixture
def listener():
    made = Listener("a", 0, shared=True)
    yield made
    made.close()


def connect(listener):
    return socket.create_connection(("127.0.0.1", listener.number), 5.0)


def test_free_port_is_known_once_bound_and_stays(listener):
    listener.bind()
    number = listener.number
    assert number
    listener.open()
    listener.refuse()
    listener.open()
    with connect(listener):
        assert listener.number == number


def test_bound_port_refuses_until_it_is_open(listener):
    listener.bind()
    with pytest.raises(ConnectionRefusedError):
        connect(listener)
    assert listener.open() is not None
    connect(listener).close()


def test_refusing_turns_away_those_who_wait_and_those_who_come(listener):
    listener.open()
    with connect(listener) as waiting:
        listener.refuse()
        with pytest.raises(ConnectionResetError):
            waiting.recv(1)
    with pytest.raises(ConnectionRefusedError):
        connect(listener)


def test_reserved_port_is_the_programs_to_listen_on():
    listener = Listener("a", 0, shared=False)
    try:
        assert listener.open() is None
        with pytest.raises(ConnectionRefusedError):
            connect(listener)
        with socket.socket() as program:
            program.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            program.bind(("127.0.0.1", listener.number))
            program.listen()
            connect(listener).close()
    finally:
        listener.close()


def test_taken_ports_are_told_all_at_once_and_none_is_held(listener):
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
    ):
        numbers = [taken.getsockname()[1] for taken in (one, two)]
        both = [
            Listener(name, number, shared=True) for name, number in zip("bc", numbers, strict=True)
        ]
        with pytest.raises(PortTaken) as caught, held([listener, *both], "abc"):
            pass
    assert caught.value.facts["ports"] == numbers
    assert caught.value.detail.count(f"pid {os.getpid()}") == 2
    with pytest.raises(ConnectionRefusedError):
        connect(listener)


def test_port_stolen_while_its_program_was_stopped_is_told(listener):
    listener.open()
    listener.refuse()
    with socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        thief.bind(("127.0.0.1", listener.number))
        thief.listen()
        with pytest.raises(PortTaken, match="is taken by pid"):
            listener.open()
    assert listener.open() is not None


def test_ports_of_programs_not_started_are_bound_only_where_the_number_is_to_be_known():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        fixed = Listener("a", taken.getsockname()[1], shared=True)
        free = Listener("b", 0, shared=True)
        with held([fixed, free], []):
            assert free.number
            with pytest.raises(ConnectionRefusedError):
                connect(free)
