"""Refusing without reading: the answer to a request that nobody has time for.

A program that is asked for four times what it can do spends all its time on refusals if one costs a
quarter of an answer. Parsed, routed and identified it costs about that; this costs a hundredth.
So only what is plainly one whole request is refused here; whatever needs a second look (a body in
pieces, an encoding, a path with signs) goes the usual way and is refused there.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mesh import clock
from mesh.errors import Overloaded
from mesh.framework.problems import problem

if TYPE_CHECKING:
    from collections.abc import Callable

DETAIL = "more is asked than can be done: too many requests wait already"

_LINE = re.compile(
    rb"(?:GET|POST|PUT|PATCH|DELETE) (/[A-Za-z0-9/_.-]{0,200})(?:\?[^ \r\n]*)? HTTP/1\.1\r\n"
)
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,7})[ \t]*(?=\r\n|$)")
_TRACE = re.compile(rb"\r\ntraceparent:[ \t]*00-([0-9a-f]{32})-")
_UNUSUAL = (b"transfer-encoding", b"\r\nexpect:", b"\r\nupgrade:", b"\r\nconnection: close")


def refusal(data: bytes, exempt: Callable[[str], bool]) -> bytes | None:
    """The whole answer; None when `data` is not just one request, or one for an `exempt` path."""
    line = _LINE.match(data)
    if line is None or exempt(line[1].decode()):
        return None
    head, end, body = data.partition(b"\r\n\r\n")
    lower = head.lower()
    if not end or any(sign in lower for sign in _UNUSUAL):
        return None
    lengths = _LENGTH.findall(lower)
    if lower.count(b"content-length") != len(lengths) or len(lengths) > 1:
        return None
    if len(body) != (int(lengths[0]) if lengths else 0):
        return None
    came = _TRACE.search(lower)
    trace_id = came[1] if came else clock.random_hex(16).encode()
    answer = _BODY.replace(_TRACE_ID, trace_id).replace(_PATH, line[1])
    return _HEAD % (trace_id, len(answer)) + answer


_TRACE_ID, _PATH = b"TRACE-ID", b"/PATH"
_MODEL = problem(Overloaded(DETAIL), _TRACE_ID.decode(), _PATH.decode())
_BODY = _MODEL.body
_HEAD = (
    b"HTTP/1.1 503 Service Unavailable\r\n"
    + b"".join(
        b"%b: %b\r\n" % (name.encode(), text.encode())
        for name, text in {**_MODEL.headers, "Content-Type": _MODEL.kind}.items()
    )
    + b"traceparent: 00-%b-0000000000000001-01\r\nContent-Length: %d\r\n\r\n"
)
