"""Time and chance: the only door to both.

Wall time is for display, for token expiry and for what is stored; every wait, timeout and
backoff is measured on the monotonic clock, which no administrator can set back. Pure code
takes `now` and random numbers as arguments instead of asking here.
"""

from __future__ import annotations

import random
import threading
import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS_MAX = 1024
"""Seconds whose text is remembered: most times that are shown are of late."""

MS_PER_S = 1000
NS_PER_S = 1_000_000_000

monotonic_s = time.monotonic
"""Seconds on a clock that only goes forward; comparable between processes of one boot."""

work_s = time.thread_time
"""What the calling thread has computed so far, in seconds; only differences mean something."""

uniform = random.uniform
"""A random float between two bounds, for jitter; never for secrets (those use `secrets`)."""

chance = random.random
"""A random float from 0 to 1, likewise; `seeded` gives one that can be repeated."""


def seeded(seed: int) -> Callable[[], float]:
    """Chance that can be repeated: each call gives the next number from 0 to 1 of this seed."""
    return random.Random(seed).random  # noqa: S311  for faults and trials, never for secrets


def new_seed() -> int:
    """A seed to be told, so that what was drawn from it can be drawn again."""
    return random.getrandbits(_SEED_BITS)


def now_ms() -> int:
    """Wall time, in whole milliseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1_000_000


def offset_s() -> float:
    """From the monotonic clock to wall time, now: what to add to the one to get the other."""
    return time.time_ns() / NS_PER_S - time.monotonic()


def iso(at_ms: int) -> str:
    """RFC 3339 in UTC with milliseconds, for example `2026-08-24T10:00:00.000Z`."""
    second, ms = divmod(at_ms, MS_PER_S)
    return f"{_second(second)}.{ms:03d}Z"


@lru_cache(SECONDS_MAX)
def _second(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def parse_iso(text: str) -> int:
    """Milliseconds since the epoch of an RFC 3339 time; a time without offset is UTC.

    Raises: ValueError.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * MS_PER_S)


class _Ids:
    """The last id made: the next one is greater, also within a millisecond and between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._at_ms = 0
        self._tail = 0

    def next(self) -> bytes:
        with self._lock:
            at_ms = now_ms()
            if at_ms > self._at_ms or self._at_ms - at_ms > _BACK_MS_MAX:
                self._at_ms, self._tail = at_ms, random.getrandbits(_TAIL_BITS - 1)
            else:
                self._tail += 1 + random.getrandbits(_STEP_BITS)
            head, low = self._tail >> _LOW_BITS, self._tail & _LOW_MASK
            number = (self._at_ms << 80) | (7 << 76) | (head << 64) | (2 << 62) | low
        return number.to_bytes(16, "big")


_SEED_BITS = 32
_BACK_MS_MAX = 10_000
"""A wall clock set back by less is waited for; set back by more, ids follow it."""

_TAIL_BITS = 74
_LOW_BITS = 62
_LOW_MASK = (1 << _LOW_BITS) - 1
_STEP_BITS = 32
"""Random bits of the step between two ids of one millisecond, so that neither tells the other."""

_ids = _Ids()


def uuid7() -> bytes:
    """16 bytes of a UUIDv7 (RFC 9562, method 2 of 6.2): milliseconds, then 74 bits.

    Ids of one process increase strictly. An id is a name, not a key: whoever knows it may still
    not be allowed in.
    """
    return _ids.next()


def uuid_text(raw: bytes) -> str:
    """The usual text form of 16 UUID bytes."""
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def new_id(prefix: str) -> str:
    """A time-sortable id such as `ord_0198c2d4-…`."""
    return f"{prefix}_{uuid_text(uuid7())}"


def random_hex(n_bytes: int) -> str:
    """`n_bytes` of chance as lower-case hex: to tell things apart, never to keep a secret.

    The generator is seeded by the operating system, and anew in each forked process.
    """
    return random.getrandbits(8 * n_bytes).to_bytes(n_bytes, "big").hex()
