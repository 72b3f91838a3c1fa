"""Faults inside a service: drawn by a seed, ended by a deadline, begun by the operator alone."""

from __future__ import annotations

import asyncio

import pytest

from mesh import clock
from mesh.errors import ServiceUnavailable
from mesh.framework.faults import Faults, Inflict


async def refused(faults):
    try:
        await faults.before_work()
    except ServiceUnavailable as error:
        return error.code == "fault-injected"
    return False


async def test_same_seed_hits_the_same_requests():
    drawn = []
    for seed in (7, 7, 8):
        faults = Faults()
        faults.begin(Inflict(kind="error", for_s=60, rate=0.3, seed=seed))
        drawn.append([await refused(faults) for _ in range(200)])
    assert drawn[0] == drawn[1] != drawn[2]
    assert 30 < sum(drawn[0]) < 90


async def test_every_fault_ends_at_its_deadline(monkeypatch):
    faults = Faults()
    now = clock.monotonic_s()
    monkeypatch.setattr(clock, "monotonic_s", lambda: now)
    faults.begin(Inflict(kind="error", for_s=5))
    faults.begin(Inflict(kind="drop", for_s=5))
    assert await refused(faults)
    assert faults.feed.through("news") == []
    now += 5.1
    assert not await refused(faults)
    assert faults.feed.through("news") == ["news"]


async def test_latency_delays_and_ending_mends():
    faults = Faults()
    faults.begin(Inflict(kind="latency", for_s=60, ms=60_000))
    waiting = asyncio.ensure_future(faults.before_work())
    await asyncio.sleep(0.05)
    assert not waiting.done()
    waiting.cancel()
    faults.end()
    async with asyncio.timeout(60):
        await faults.before_work()


@pytest.mark.parametrize(("rate", "hit"), [(0.0, False), (1.0, True)])
async def test_rate_is_a_share(rate, hit):
    faults = Faults()
    faults.begin(Inflict(kind="drop", for_s=60, rate=rate))
    assert {not faults.feed.through("news") for _ in range(100)} == {hit}


def test_events_that_were_handed_over_are_not_lost_but_come_twice_and_out_of_order():
    faults = Faults()
    faults.begin(Inflict(kind="drop", for_s=60))
    assert faults.handed.calm
    faults.begin(Inflict(kind="dup", for_s=60, rate=0.5))
    faults.begin(Inflict(kind="reorder", for_s=60, rate=0.5))
    found = faults.handed.all_through(range(100))
    assert {*found} == {*range(100)}
    assert len(found) > 100
    assert found != sorted(found)
    faults.end()
    assert faults.handed.calm
