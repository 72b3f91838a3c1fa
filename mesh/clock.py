"""Time and chance: the only door to both.

Wall time is for display, for token expiry and for what is stored; every wait, timeout and
backoff is measured on the monotonic clock, which no administrator can set back. Pure code
takes `now` and random numbers as arguments instead of asking here.
"""

from __future__ import annotations

import random
import time
import uuid
from datetime import UTC, datetime

MS_PER_S = 1000

monotonic_s = time.monotonic
"""Seconds on a clock that only goes forward; comparable between processes of one boot."""

uniform = random.uniform
"""A random float between two bounds, for jitter; never for secrets (those use `secrets`)."""


def now_ms() -> int:
    """Wall time, in whole milliseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1_000_000


def iso(at_ms: int) -> str:
    """RFC 3339 in UTC with milliseconds, for example `2026-08-24T10:00:00.000Z`."""
    moment = datetime.fromtimestamp(at_ms / MS_PER_S, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at_ms % MS_PER_S:03d}Z"


def parse_iso(text: str) -> int:
    """Milliseconds since the epoch of an RFC 3339 time; a time without offset is UTC.

    Raises: ValueError.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * MS_PER_S)


def uuid7() -> bytes:
    """16 bytes of a UUIDv7 (RFC 9562): 48 bits of milliseconds, then 74 random bits.

    An id is a name, not a key: whoever knows it may still not be allowed in.
    """
    raw = bytearray(now_ms().to_bytes(6, "big") + random.randbytes(10))  # noqa: S311  a name, not a key
    raw[6] = (raw[6] & 0x0F) | 0x70
    raw[8] = (raw[8] & 0x3F) | 0x80
    return bytes(raw)


def uuid_text(raw: bytes) -> str:
    """The usual text form of 16 UUID bytes."""
    return str(uuid.UUID(bytes=raw))


def new_id(prefix: str) -> str:
    """A time-sortable id such as `ord_0198c2d4-…`."""
    return f"{prefix}_{uuid_text(uuid7())}"


def random_hex(n_bytes: int) -> str:
    """`n_bytes` of chance as lower-case hex: to tell things apart, never to keep a secret.

    The generator is seeded by the operating system, and anew in each forked process.
    """
    return random.randbytes(n_bytes).hex()  # noqa: S311  never a secret
