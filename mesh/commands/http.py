"""One HTTP request from the command line, by the standard library.

A command asks once or twice and ends, so it does without `mesh.client`: that brings an event
loop and aiohttp, ten times what the request itself takes.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mesh import clock
from mesh.errors import DeadlineExceeded, ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

CONNECT_S = 1.0
"""Time to connect on one machine; a stopped process's backlog may be full."""

ANSWER_BYTES_MAX = 16 * 1024 * 1024
"""Largest answer that is read; nobody reads more in a terminal."""


class ConnectionRefused(ServiceUnavailable):
    """Nobody listens there."""

    code = "connection-refused"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    raw: bytes
    duration_ms: float

    @property
    def body(self) -> object:
        """The body's JSON, or its text if it is none; None when there is no body."""
        if not self.raw:
            return None
        try:
            found: object = json.loads(self.raw)
        except (ValueError, RecursionError):
            return self.raw.decode("utf-8", "replace")
        return found


def ask(
    base: str,
    method: str,
    target: str,
    *,
    body: object = None,
    headers: Mapping[str, str],
    timeout_s: float,
) -> Answer:
    """Send one request and read the whole answer.

    Args:
        base: such as `http://127.0.0.1:7004`; `target` is the path with its query.
        body: JSON value, or None for no body.
        timeout_s: for everything together, however slowly the answer trickles.

    Raises: ConnectionRefused; DeadlineExceeded; ServiceUnavailable. After the last two it may
    or may not have happened.
    """
    where = urlsplit(base)
    connection = http.client.HTTPConnection(
        where.hostname or "127.0.0.1", where.port, timeout=min(CONNECT_S, timeout_s)
    )
    begun_s = clock.monotonic_s()
    late = threading.Event()
    try:
        connection.connect()
        wire = connection.sock
        wire.settimeout(None)  # from here on the timer is the bound

        def cut() -> None:
            late.set()
            with contextlib.suppress(OSError):
                wire.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(timeout_s, cut)
        timer.daemon = True
        timer.start()
        try:
            response, content = _exchange(connection, method, target, body, headers)
        finally:
            timer.cancel()
        if late.is_set():
            raise TimeoutError  # a cut connection looks like one that has ended
        return Answer(
            response.status,
            {name.lower(): value for name, value in response.getheaders()},
            content,
            (clock.monotonic_s() - begun_s) * clock.MS_PER_S,
        )
    except (OSError, http.client.HTTPException) as error:
        if late.is_set() or isinstance(error, TimeoutError):
            raise DeadlineExceeded(f"{base} did not answer within {timeout_s:g} s") from None
        if isinstance(error, ConnectionRefusedError):
            raise ConnectionRefused(f"nobody listens at {base}") from None
        raise ServiceUnavailable(
            f"the connection to {base} broke ({error}); it may or may not have happened"
        ) from None
    finally:
        connection.close()


def _exchange(
    connection: http.client.HTTPConnection,
    method: str,
    target: str,
    body: object,
    headers: Mapping[str, str],
) -> tuple[http.client.HTTPResponse, bytes]:
    """Send and read. Raises: OSError, HTTPException (also for an answer that ends too soon)."""
    raw = None if body is None else json.dumps(body, separators=(",", ":")).encode()
    sent = {"Accept": "application/json, application/problem+json", **headers}
    if raw is not None:
        sent.setdefault("Content-Type", "application/json")
    connection.request(method, target, body=raw, headers=sent)
    response = connection.getresponse()
    content = response.read(ANSWER_BYTES_MAX)
    if response.length:
        raise http.client.IncompleteRead(content, response.length)
    return response, content
