"""Frames as bytes. It refuses to raise: what it cannot read is `None`, for the caller to count.

Every message starts with one header of 92 bytes in network order:

    magic "M1" | version u8 | kind u8 | flags u16 | reserved u16 | session u32 | req u32
    | epoch u32 | prev_epoch u32 | seq u64 | ts_ms u64 | prev_hash 16 | hash 16 | id 16 | crc32 u32

The checksum covers the header (itself as zero) and every other frame; on the feed a topic frame
stands before the header, so that subscribers can filter. Events travel joined in one frame, each
as a header of its own, five lengths u32 and five texts (stream, type, key, trace, body): one
frame of 64 events costs a fiftieth of 64 messages of five frames. The checksum of such an inner
header is zero: the message's covers it, and the receiver verifies the event's hash.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, TypeVar, cast, get_args

from msgspec import Struct

from mesh import clock
from mesh.buses.contract import NO_HASH, ORIGIN, Event, Link, Position, StreamHead
from mesh.buses.zmq.protocol.frames import (
    Ack,
    Attach,
    Attached,
    Batch,
    Beat,
    Committed,
    Evt,
    Fenced,
    Frame,
    Get,
    Heartbeat,
    Hello,
    Nak,
    NakReason,
    Ping,
    Pong,
    Put,
    Recheck,
    Reset,
    Welcome,
)
from mesh.codec import convert, decode, encode, members
from mesh.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")

MAGIC = b"M1"
VERSION = 1
HEADER_BYTES = 92

SESSION_BYTES = 4

JSON_BYTES_MAX = 512 * 1024
"""Largest JSON frame: a heartbeat of a thousand streams is a quarter of it."""

TEXT_BYTES_MAX = 4096
"""Largest stream name, type or key."""

NUMBER_MAX = 2**62
"""Largest position and time; every sum of them stays within 64 bits."""

BEAT_TOPIC = b"\x01HB\0"

_HEADER = struct.Struct(">2sBBHHIIIIQQ16s16s16sI")
_EVENT = struct.Struct(">2sBBHHIIIIQQ16s16s16sIIIIII")
_CRC = struct.Struct(">I")
_CRC_AT = HEADER_BYTES - _CRC.size
_EVENT_KIND = 0x50
_FEED_FRAMES = 3

_KINDS: dict[type[Frame], int] = {
    Hello: 0x01,
    Welcome: 0x02,
    Fenced: 0x03,
    Recheck: 0x04,
    Put: 0x10,
    Ack: 0x11,
    Nak: 0x12,
    Ping: 0x20,
    Pong: 0x21,
    Evt: 0x30,
    Heartbeat: 0x31,
    Attach: 0x40,
    Attached: 0x41,
    Reset: 0x42,
    Get: 0x43,
    Batch: 0x44,
    Committed: 0x45,
}
_NAK_REASONS: dict[bytes, NakReason] = {each.encode(): each for each in get_args(NakReason)}
_SHAPES = {kind: shape for shape, kind in _KINDS.items()}


class _BatchHead(Struct, frozen=True):
    """The JSON of a BATCH."""

    head: Link
    arrivals: tuple[int, ...]
    heads: tuple[StreamHead, ...]


def new_session() -> int:
    """A random number for one conversation (R1), or for one life of the bus; no secret."""
    return int(clock.random_hex(SESSION_BYTES), 16)


def topic(stream: str) -> bytes:
    """What a subscriber of one stream filters by; the NUL keeps `order` apart from `orders`."""
    return stream.encode() + b"\0"


def pack(frame: Frame) -> list[bytes]:
    """The frames of one message, without a ROUTER's address."""
    session, req, at, rest = _parts(frame)
    header = _HEADER.pack(
        *(MAGIC, VERSION, _KINDS[type(frame)], 0, 0, session, req),
        *(at.epoch, 0, at.seq, 0, NO_HASH, at.hash, NO_HASH, 0),
    )
    header = header[:_CRC_AT] + _CRC.pack(_checksum(header, rest))
    if isinstance(frame, Evt | Heartbeat):
        return [rest[0], header, *rest[1:]]
    return [header, *rest]


def _parts(frame: Frame) -> tuple[int, int, Link, list[bytes]]:  # noqa: PLR0911  one arm a kind
    """Session, question, position and the frames after the header."""
    match frame:
        case Put(session, events):
            return session, 0, ORIGIN, [join(events)]
        case Batch(session, req, head, events, arrivals, heads):
            head_json = encode(_BatchHead(head, arrivals, heads))
            return session, req, ORIGIN, [head_json, join(events)]
        case Evt(instance, stream, head, events):
            return instance, 0, head, [topic(stream), join(events)]
        case Heartbeat(instance, beats):
            return instance, 0, ORIGIN, [BEAT_TOPIC, encode(beats)]
        case Ack(session, position):
            return session, 0, Link(position.epoch, position.seq, NO_HASH), []
        case Recheck(session, req, head):
            return session, req, head, []
        case Nak(session, reason, head):
            return session, 0, head, [reason.encode()]
        case Ping(session) | Pong(session):
            return session, 0, ORIGIN, []
        case _:
            plain = dict(members(frame))
            plain.pop("session")
            req = cast("int", plain.pop("req", 0))
            return frame.session, req, ORIGIN, [encode(plain)]


def _checksum(header: bytes, rest: Sequence[bytes]) -> int:
    crc = zlib.crc32(header[:_CRC_AT])
    for frame in rest:
        crc = zlib.crc32(frame, crc)
    return crc


def unpack_feed(frames: Sequence[bytes], *, bare: bool = False) -> Frame | None:
    """What a message of the feed says; its first frame is the topic.

    Args:
        bare: news without the events it brings, for who cannot use them now.
    """
    if len(frames) < _FEED_FRAMES:
        return None
    return unpack([frames[1], frames[0], *frames[2:]], bare=bare)


def unpack(frames: Sequence[bytes], *, bare: bool = False) -> Frame | None:
    """What a message says, or None if it is not one of ours, whole and unharmed."""
    if not frames or len(frames[0]) != HEADER_BYTES:
        return None
    header, rest = frames[0], frames[1:]
    magic, version, kind, _, _, session, req, epoch, _, seq, _, _, hash_, _, crc = _HEADER.unpack(
        header
    )
    shape = _SHAPES.get(kind)
    if (magic, version) != (MAGIC, VERSION) or shape is None or seq > NUMBER_MAX:
        return None
    if _checksum(header, rest) != crc:
        return None
    if bare and shape is Evt:
        rest = [rest[0], b""]
    try:
        return _read(shape, session, req, Link(epoch, seq, hash_), rest)
    except (InvalidInput, UnicodeDecodeError, RecursionError, ValueError):
        return None


def refusal(frames: Sequence[bytes]) -> tuple[int, NakReason] | None:
    """What to answer to a PUT that `unpack` could not read: its session, as it says, and why.

    CRC: harmed on the way, to be sent again. TOOBIG: whole, but beyond a bound of ours, as it will
    be the next time. None for anything else.
    """
    if not frames or len(frames[0]) != HEADER_BYTES:
        return None
    magic, version, kind, _, _, session, *_, crc = _HEADER.unpack(frames[0])
    if (magic, version, kind) != (MAGIC, VERSION, _KINDS[Put]):
        return None
    return session, "CRC" if _checksum(frames[0], frames[1:]) != crc else "TOOBIG"


def _read(  # noqa: PLR0911  one arm a kind
    shape: type[Frame], session: int, req: int, link: Link, rest: Sequence[bytes]
) -> Frame | None:
    """One kind. A wrong number of frames, and all that is wrong inside them, raises or is None."""
    if shape is Put:
        (blob,) = rest
        events = split(blob)
        return Put(session, events) if events else None
    if shape is Batch:
        raw, blob = rest
        events, body = split(blob), _json(raw, _BatchHead)
        if events is None or len(body.arrivals) not in {0, len(events)}:
            return None
        return Batch(session, req, body.head, events, body.arrivals, body.heads)
    if shape is Evt:
        name, blob = rest
        events = split(blob)
        if events is None or not name.endswith(b"\0"):
            return None
        return Evt(session, name[:-1].decode(), link, events)
    if shape is Heartbeat:
        name, raw = rest
        beats = _json(raw, tuple[Beat, ...])
        return Heartbeat(session, beats) if name == BEAT_TOPIC else None
    if shape is Nak:
        (reason,) = rest
        why = _NAK_REASONS.get(bytes(reason))
        return Nak(session, why, link) if why else None
    if not rest:
        return _bare(shape, session, req, link)
    (raw,) = rest
    plain = _json(raw, dict[str, object])
    return convert({**plain, "session": session, "req": req}, shape)


def _bare(shape: type[Frame], session: int, req: int, link: Link) -> Frame | None:
    """The kinds that are a header only."""
    if shape is Ack:
        return Ack(session, Position(link.epoch, link.seq))
    if shape is Recheck:
        return Recheck(session, req, link)
    if shape is Ping or shape is Pong:
        return shape(session)
    return None


def _json(raw: bytes, shape: type[T]) -> T:
    if len(raw) > JSON_BYTES_MAX:
        raise InvalidInput("a JSON frame is too large")
    return decode(raw, shape)


def join(events: Sequence[Event]) -> bytes:
    """Events one after the other."""
    parts: list[bytes] = []
    for event in events:
        texts = (
            event.stream.encode(),
            event.type.encode(),
            event.key.encode(),
            event.trace,
            event.body,
        )
        head = _EVENT.pack(
            *(MAGIC, VERSION, _EVENT_KIND, 0, 0, 0, 0, event.epoch, event.prev_epoch, event.seq),
            *(event.ts_ms, event.prev_hash, event.hash, event.id, 0, *map(len, texts)),
        )
        parts.append(head)
        parts += texts
    return b"".join(parts)


def split(blob: bytes) -> tuple[Event, ...] | None:
    """The reverse of `join`; None if the bytes are anything else."""
    events: list[Event] = []
    start, end = 0, len(blob)
    try:
        while start < end:
            (magic, version, kind, _, _, _, _, epoch, prev_epoch, seq, ts_ms, prev_hash, own_hash,
             event_id, _, *lengths) = _EVENT.unpack_from(blob, start)  # fmt: skip
            at_stream = start + _EVENT.size
            at_type = at_stream + lengths[0]
            at_key = at_type + lengths[1]
            at_trace = at_key + lengths[2]
            at_body = at_trace + lengths[3]
            start = at_body + lengths[4]
            if (
                start > end
                or at_trace - at_stream > TEXT_BYTES_MAX
                or seq > NUMBER_MAX
                or ts_ms > NUMBER_MAX
                or (magic, version, kind) != (MAGIC, VERSION, _EVENT_KIND)
            ):
                return None
            event = Event(
                blob[at_stream:at_type].decode(),
                *(epoch, seq, prev_epoch, prev_hash, own_hash, event_id),
                *(blob[at_type:at_key].decode(), blob[at_key:at_trace].decode(), ts_ms),
                *(blob[at_trace:at_body], blob[at_body:start]),
            )
            events.append(event)
    except (struct.error, UnicodeDecodeError):
        return None
    return tuple(events)
