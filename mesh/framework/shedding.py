"""Refusing without reading: the answer to a request that nobody has time for.

A program that is asked for four times what it can do spends all its time on refusals if one costs a
quarter of an answer. Parsed, routed and identified it costs about that; this costs a hundredth.
So only what is plainly one whole request is refused here; whatever needs a second look (a body in
pieces, an encoding, a path with signs) goes the usual way and is refused there.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from mesh import clock
from mesh.errors import Overloaded
from mesh.framework.problems import problem

if TYPE_CHECKING:
    from collections.abc import Container

DETAIL = "more is asked than can be done: too many requests wait already"

PATHS_MAX = 64
"""Whose refusals are kept made."""

_OTHERS = (
    rb"(?:traceparent:[ \t]*00-([0-9a-f]{32})-.*+\n(?<=\r\n)"
    rb"|(?!content-length|transfer-encoding|expect|upgrade|proxy-|connection(?!: keep-alive\r))"
    rb"[a-z0-9].*+\n(?<=\r\n))*+"
)
_HEAD = re.compile(
    rb"(?-i:GET|POST|PUT|PATCH|DELETE) (/[A-Za-z0-9/_.-]{0,200}+)(?:\?[^ \r\n]*+)? HTTP/1\.1\r\n"
    + _OTHERS
    + rb"(?:content-length:[ \t]*+([0-9]{1,7}+)[ \t]*+\r\n)?"
    + _OTHERS
    + rb"\r\n",
    re.IGNORECASE,
)
"""Reads each byte once, whatever comes: it gives nothing back (`+` behind a quantifier)."""


def refusal(data: bytes, exempt: Container[str]) -> bytes | None:
    """The whole answer; None when `data` is not just one request, or for an `exempt` path."""
    head = _HEAD.match(data)
    if head is None:
        return None
    path, before, length, behind = head.groups()
    if len(data) - head.end() != int(length or 0) or path.decode() in exempt:
        return None
    trace_id = before or behind or clock.random_hex(16).encode()
    return _answer(path) % (trace_id, trace_id)


_TRACE_ID = 32 * "#"
"""In the place of one; no path has such signs."""


@lru_cache(PATHS_MAX)
def _answer(path: bytes) -> bytes:
    """All of it but the trace's id, which is missing twice: in the head and in the body."""
    told = problem(Overloaded(DETAIL), _TRACE_ID, path.decode())
    headers = {
        **told.headers,
        "Content-Type": told.kind,
        "traceparent": f"00-{_TRACE_ID}-0000000000000001-01",
        "Content-Length": str(len(told.body)),
    }
    head = "".join(f"{name}: {text}\r\n" for name, text in headers.items())
    whole = f"HTTP/1.1 503 Service Unavailable\r\n{head}\r\n".encode() + told.body
    return whole.replace(b"%", b"%%").replace(_TRACE_ID.encode(), b"%b")
