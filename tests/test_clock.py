"""Ids and times."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor

from hypothesis import given
from hypothesis import strategies as st

from mesh import clock


def test_uuid7_increases_strictly_also_between_threads():
    with ThreadPoolExecutor(4) as pool:
        rows = list(pool.map(lambda _: [clock.uuid7() for _ in range(2000)], range(4)))
    assert all(row == sorted(row) for row in rows)
    everything = [one for row in rows for one in row]
    assert len(set(everything)) == len(everything)


def test_uuid7_has_version_variant_and_the_present_millisecond():
    before = clock.now_ms()
    found = uuid.UUID(bytes=clock._Ids().next())
    assert (found.version, found.variant) == (7, uuid.RFC_4122)
    assert before - 1 <= found.int >> 80 <= clock.now_ms() + 1


def test_uuid7_waits_for_a_clock_set_back_a_little_and_follows_one_set_back_far(monkeypatch):
    ids = clock._Ids()
    times = iter([1_000_000, 995_000, 100_000])
    monkeypatch.setattr(clock, "now_ms", lambda: next(times))
    first, little, far = (ids.next() for _ in range(3))
    assert little > first
    assert uuid.UUID(bytes=far).int >> 80 == 100_000


def test_new_id_is_prefixed():
    assert clock.new_id("ord").startswith("ord_")
    assert len(clock.new_id("ord")) == 40


@given(st.integers(0, 4_102_444_800_000))
def test_iso_is_read_back(at_ms: int):
    assert clock.parse_iso(clock.iso(at_ms)) == at_ms
