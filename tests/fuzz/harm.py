"""Messages that no honest party sends: what a seed thinks of, out of what the protocol knows.

None of them may be taken: PUTs are of conversations that never greeted, and all are of streams and
consumers that nobody else uses.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from mesh.buses.contract import ORIGIN, Position
from mesh.buses.zmq.protocol import frames
from mesh.buses.zmq.wire import HEADER_BYTES, MAGIC, VERSION, pack
from tests.buses.histories import FIRST, chain

if TYPE_CHECKING:
    import random

STREAM = "victim"
EVENTS = chain(3, stream=STREAM)
HEAD = EVENTS[-1].link
FRAMES_MAX = 6
BYTES_MAX = 300
LARGE_BYTES = 64 * 1024

SAMPLES = (
    frames.Hello(11, 1, STREAM, (FIRST,), HEAD, 1),
    frames.Put(12, EVENTS),
    frames.Ping(13),
    frames.Attach(14, "nobody", STREAM, ORIGIN, 0),
    frames.Get(14, 1, STREAM, Position(0, 0), 10, 1000),
    frames.Get(15, 1, "*", Position(0, 0), 10, 1000),
    frames.Committed(14, STREAM, Position(1, 2), 1),
    frames.Welcome(11, 1, HEAD, 1, 1),
    frames.Ack(11, Position(1, 1)),
    frames.Nak(11, "GAP", HEAD),
    frames.Attached(14, (FIRST,), HEAD, 1),
    frames.Batch(14, 1, HEAD, EVENTS),
    frames.Reset(14, "PROTO"),
    frames.Evt(16, STREAM, HEAD, EVENTS),
    frames.Heartbeat(16, (frames.Beat(STREAM, 1, 0, HEAD, 1),)),
)
_SHAPES = tuple(tuple(pack(sample)) for sample in SAMPLES)
_NUMBERS = (
    b"-1",
    b"1e999",
    b"4294967296",
    b"99999999999999999999999",
    b"null",
    b'"x"',
    b"[]",
    b"{}",
)


def sealed(message: list[bytes], at: int = 0) -> list[bytes]:
    """With the checksum that its content has."""
    header = message[at]
    if len(header) != HEADER_BYTES:
        return message
    crc = zlib.crc32(header[:-4])
    for index, frame in enumerate(message):
        if index != at:
            crc = zlib.crc32(frame, crc)
    return [*message[:at], header[:-4] + crc.to_bytes(4, "big"), *message[at + 1 :]]


def _noise(chance: random.Random) -> list[bytes]:
    """Nothing of ours."""
    count = chance.randrange(1, FRAMES_MAX)
    return [chance.randbytes(chance.randrange(BYTES_MAX)) for _ in range(count)]


def _likeness(chance: random.Random) -> list[bytes]:
    """Random content behind a header that begins as ours does."""
    head = MAGIC + bytes((VERSION, chance.choice((0x01, 0x10, 0x20, 0x40, 0x43, 0x44, 0x45, 0xFF))))
    header = head + chance.randbytes(HEADER_BYTES - len(head))
    return sealed([header, *_noise(chance)[: chance.randrange(3)]])


def _flipped(chance: random.Random) -> list[bytes]:
    """A valid message with some bits the other way round: right shape, wrong checksum."""
    message = list(chance.choice(_SHAPES))
    for _ in range(chance.randrange(1, 4)):
        index = chance.randrange(len(message))
        if message[index]:
            changed = bytearray(message[index])
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
            message[index] = bytes(changed)
    return message


def _flipped_and_sealed(chance: random.Random) -> list[bytes]:
    """The same with the right checksum: only the content is wrong."""
    return sealed(_flipped(chance))


def _other_count(chance: random.Random) -> list[bytes]:
    message = list(chance.choice(_SHAPES))
    if chance.random() < 0.5:
        message.insert(chance.randrange(len(message) + 1), chance.randbytes(chance.randrange(40)))
    else:
        del message[chance.randrange(len(message))]
    return sealed(message) if message and chance.random() < 0.5 else message or [b""]


def _other_values(chance: random.Random) -> list[bytes]:
    """JSON whose numbers are not what they should be; the checksum is right."""
    message = list(chance.choice(_SHAPES))
    last = message[-1]
    digits = [place for place, byte in enumerate(last) if 48 <= byte <= 57]
    if digits and last[:1] in b"{[":
        place = chance.choice(digits)
        message[-1] = last[:place] + chance.choice(_NUMBERS) + last[place + 1 :]
    return sealed(message)


def _huge_lengths(chance: random.Random) -> list[bytes]:
    """Events that claim more bytes than there are."""
    header, blob = _SHAPES[1]
    changed = bytearray(blob)
    place = HEADER_BYTES + 4 * chance.randrange(5)
    changed[place : place + 4] = chance.choice((0xFFFFFFFF, 0x7FFFFFFF, len(blob) + 1)).to_bytes(
        4, "big"
    )
    return sealed([header, bytes(changed)])


def _large(chance: random.Random) -> list[bytes]:
    return sealed([_SHAPES[1][0], chance.randbytes(chance.randrange(LARGE_BYTES))])


def _deep(chance: random.Random) -> list[bytes]:
    """JSON that nests without end."""
    return sealed([_SHAPES[0][0], chance.choice((b"[", b'{"stream":')) * chance.randrange(5000)])


_KINDS = (
    _noise, _noise, _likeness, _likeness, _flipped, _flipped, _flipped_and_sealed,
    _flipped_and_sealed, _other_count, _other_values, _other_values, _huge_lengths, _large, _deep,
)  # fmt: skip
_WEIGHTS = (*(8,) * 12, 1, 1)


def harmed(chance: random.Random) -> list[bytes]:
    """One message."""
    return chance.choices(_KINDS, _WEIGHTS)[0](chance)
