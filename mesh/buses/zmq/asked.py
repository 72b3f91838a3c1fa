"""What programs ask of the bus over HTTP, read strictly: an event to tell, a question for the next."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta, Struct

from mesh import clock, codec, telemetry
from mesh.buses.contract import Trace
from mesh.buses.zmq.hosted import Draft
from mesh.buses.zmq.hosting import Question
from mesh.errors import InvalidInput

if TYPE_CHECKING:
    from aiohttp import web

WAIT_S = 20.0
WAIT_S_MAX = 30.0
"""How long a question may wait for news: less than proxies and clients give up after."""

EVENTS = 100
EVENTS_MAX = 256
"""In one answer, unless asked otherwise, and at most."""

FILTERS_MAX = 16
TYPE_CHARS_MAX = 128
ID_CHARS_MAX = 200
SUBJECT_CHARS_MAX = 256
STORY_CHARS_MAX = 80

CLOUD_EVENT = "application/cloudevents+json"

UUID_VERSION_8 = 8
"""RFC 9562: an id made from something else."""

_TYPE = re.compile(r"[a-z0-9][a-z0-9_-]*(\.[a-z0-9_-]+)*", re.IGNORECASE)
_CONSUMER = re.compile(r"[a-z][a-z0-9-]{0,30}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class Said(Struct, frozen=True):
    """A CloudEvent as a program sends it; members that are not named here are not kept."""

    specversion: Literal["1.0"]
    id: Annotated[str, Meta(min_length=1, max_length=ID_CHARS_MAX)]
    type: str
    subject: Annotated[str, Meta(max_length=SUBJECT_CHARS_MAX)] = ""
    data: object = None
    traceparent: str = ""
    correlationid: str = ""
    causationid: str = ""


def draft(program: str, request: web.Request, body: object) -> Draft:
    """The event that a request tells: the body is its data, or a whole CloudEvent.

    Raises: InvalidInput.
    """
    kind = request.match_info["type"]
    trace = telemetry.parse_traceparent(request.headers.get("traceparent"))
    if request.content_type == CLOUD_EVENT:
        said = codec.convert(body, Said)
        if said.type != kind:
            raise InvalidInput(
                f"the type is {said.type!r}, the path says {kind!r}", pointer="/type"
            )
        trace = telemetry.parse_traceparent(said.traceparent) or trace
    elif request.content_type == "application/json":
        own = request.headers.get("Idempotency-Key") or clock.uuid_text(clock.uuid7())
        if len(own) > ID_CHARS_MAX:
            raise InvalidInput(f"Idempotency-Key is over {ID_CHARS_MAX} characters")
        said = Said(
            "1.0",
            own,
            kind,
            subject=request.query.get("subject", "")[:SUBJECT_CHARS_MAX],
            data=body,
        )
    else:
        raise InvalidInput(
            f"Content-Type must be application/json or {CLOUD_EVENT}", code="content-type"
        )
    if not _TYPE.fullmatch(kind) or len(kind) > TYPE_CHARS_MAX:
        raise InvalidInput(
            f"{kind[:TYPE_CHARS_MAX]!r} cannot be the type of an event",
            pointer="/type",
            hint="for example parcel.label_printed",
        )
    origin = Trace(
        (trace or telemetry.new_trace()).traceparent,
        said.correlationid[:STORY_CHARS_MAX],
        said.causationid[:STORY_CHARS_MAX],
    )
    return Draft(
        _id(program, said.id), kind, said.subject, codec.encode(origin), codec.encode(said.data)
    )


def _id(program: str, text: str) -> bytes:
    """16 bytes for any id: a UUID's own, else made of it, always the same."""
    if _UUID.fullmatch(text):
        return bytes.fromhex(text.replace("-", ""))
    raw = bytearray(hashlib.blake2b(f"{program}\0{text}".encode(), digest_size=16).digest())
    raw[6] = (raw[6] & 0x0F) | UUID_VERSION_8 << 4
    raw[8] = (raw[8] & 0x3F) | 0x80
    return bytes(raw)


def question(program: str, request: web.Request) -> Question:
    """What a consumer wants next.

    Raises: InvalidInput.
    """
    query = request.query
    consumer = query.get("consumer", "")
    if not _CONSUMER.fullmatch(consumer):
        raise InvalidInput(
            f"consumer={consumer[:40]!r} is no name",
            pointer="/consumer",
            hint="say who consumes: ?consumer=labels",
        )
    start = query.get("start", "tail")
    if start not in {"tail", "head"}:
        raise InvalidInput("start is `tail` (all that is kept) or `head` (only what comes)")
    types, streams = query.getall("type", []), query.getall("stream", [])
    if len(types) > FILTERS_MAX or len(streams) > FILTERS_MAX:
        raise InvalidInput(f"at most {FILTERS_MAX} of `type` and of `stream`")
    after = query.get("after")
    return Question(
        program,
        consumer,
        after or None,
        tuple(types),
        tuple(streams),
        start == "head",
        int(_number(query.get("max"), "max", EVENTS, 1, EVENTS_MAX)),
        _number(query.get("wait"), "wait", WAIT_S, 0, WAIT_S_MAX),
    )


def _number(text: str | None, name: str, default: float, low: float, high: float) -> float:
    if text is None:
        return default
    try:
        found = float(text)
    except ValueError:
        found = high + 1
    if not low <= found <= high:
        raise InvalidInput(f"{name} is a number from {low:g} to {high:g}", pointer=f"/{name}")
    return found
