"""One request over a real socket, to servers that answer, stall, trickle, break and refuse."""

from __future__ import annotations

import re
import socket
import threading
from contextlib import contextmanager

import pytest

from mesh import clock
from mesh.commands import http
from mesh.errors import DeadlineExceeded, ServiceUnavailable


def _request(connection: socket.socket) -> bytes:
    """One whole request, which may come in pieces."""
    raw = b""
    while b"\r\n\r\n" not in raw:
        raw += connection.recv(65536)
    head, _, body = raw.partition(b"\r\n\r\n")
    found = re.search(rb"content-length: (\d+)", head.lower())
    while found and len(body) < int(found.group(1)):
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


@contextmanager
def server(answer):
    """A server of one connection; `answer(connection, request)` says what it does."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        received: list[bytes] = []

        def serve():
            connection, _ = listener.accept()
            with connection:
                received.append(_request(connection))
                answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", received
        finally:
            thread.join(60)
            assert not thread.is_alive()


def reply(text: str):
    raw = text.replace("\n", "\r\n").encode()
    return lambda connection: connection.sendall(raw)


def ask(url, **more):
    return http.ask(url, "POST", "/orders?x=1", headers={"X-Y": "z"}, timeout_s=30.0, **more)


def test_ask_sends_json_and_reads_the_answer():
    body = '{"id":1}'
    with server(reply(f"HTTP/1.1 201 Created\nContent-Length: {len(body)}\nETag: W\n\n{body}")) as (
        url,
        got,
    ):
        answer = ask(url, body={"a": [1]})
    assert (answer.status, answer.headers["etag"], answer.body) == (201, "W", {"id": 1})
    assert answer.duration_ms > 0
    head, _, sent = got[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /orders?x=1 HTTP/1.1")
    assert b"Content-Type: application/json" in head
    assert b"X-Y: z" in head
    assert sent == b'{"a":[1]}'


@pytest.mark.parametrize(
    ("raw", "body"),
    [("not json", "not json"), ("", None), ("[" * 100_000, "[" * 100_000)],
    ids=["text", "nothing", "deep"],
)
def test_a_body_that_is_no_json_is_text(raw, body):
    with server(reply(f"HTTP/1.1 200 OK\nContent-Length: {len(raw)}\n\n{raw}")) as (url, _):
        assert ask(url).body == body


def test_a_refused_connection_is_told_apart():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(http.ConnectionRefused):
        ask(f"http://127.0.0.1:{port}")


def test_a_silent_server_is_left_at_the_deadline():
    gone = threading.Event()
    with server(lambda _: gone.wait(60)) as (url, _):
        begun_s = clock.monotonic_s()
        with pytest.raises(DeadlineExceeded):
            http.ask(url, "GET", "/", headers={}, timeout_s=0.2)
        assert clock.monotonic_s() - begun_s < 30.0
        gone.set()


@pytest.mark.parametrize("beginning", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_a_server_that_trickles_is_left_at_the_deadline(beginning):
    """Each byte comes in time; all together they would take for ever."""
    gone = threading.Event()

    def trickle(connection):
        connection.sendall(beginning)
        while not gone.wait(0.02):
            try:
                connection.sendall(b"x")
            except OSError:
                return

    with server(trickle) as (url, _):
        begun_s = clock.monotonic_s()
        with pytest.raises(DeadlineExceeded):
            http.ask(url, "GET", "/", headers={}, timeout_s=0.3)
        assert clock.monotonic_s() - begun_s < 30.0
        gone.set()


@pytest.mark.parametrize("text", ["", "HTTP/1.1 200 OK\nContent-Length: 10\n\nabc", "garbage\n\n"])
def test_a_broken_answer_may_or_may_not_have_happened(text):
    with server(reply(text)) as (url, _), pytest.raises(ServiceUnavailable, match="may or may not"):
        ask(url)
