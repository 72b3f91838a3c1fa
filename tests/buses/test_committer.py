"""When the bus's disk is given work, on a real log; time stands still until it is let go."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from mesh import clock
from mesh.buses.contract import ORIGIN
from mesh.buses.zmq.committer import COMMIT_PACE_S, HURRY_EVENTS, Committer
from mesh.buses.zmq.log import Advancing, Log
from tests.buses.histories import FIRST, chain
from tests.buses.support import until

EVENTS = chain(HURRY_EVENTS + 10)


class Bench:
    def __init__(self, directory, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(clock, "monotonic_s", lambda: self.now)
        self.log = Log(directory)
        self.groups = []
        self.taken = 0
        self.committer = Committer(
            self.log, settled=self.settled, refused=self.refused, broken=self.refused
        )

    def settled(self, group, _found):
        self.groups.append(len(group.events))

    def refused(self, why):
        raise AssertionError(why)

    async def begin(self):
        """A stream whose first event is committed."""
        self.committer.advance(Advancing("order", (FIRST,), ORIGIN))
        self.committer.kick()
        await until(lambda: self.groups == [0])
        self.now += COMMIT_PACE_S
        self.put(1)
        await until(lambda: self.groups == [0, 1])
        return self

    def put(self, count):
        self.committer.append(EVENTS[self.taken : self.taken + count])
        self.taken += count
        self.committer.kick()


@pytest.fixture
async def bench(tmp_path, monkeypatch):
    made = Bench(tmp_path, monkeypatch)
    await made.begin()
    yield made
    await made.committer.close()
    made.log.close()


async def test_events_that_come_one_by_one_share_a_commit_and_none_follows(bench):
    for _ in range(5):
        bench.put(1)
        await asyncio.sleep(COMMIT_PACE_S / 2)
    assert (bench.groups, bench.committer.unsettled) == ([0, 1], True)
    bench.now += COMMIT_PACE_S
    await until(lambda: bench.groups == [0, 1, 5])
    assert not bench.committer.unsettled
    bench.now += 1.0
    bench.committer.kick()
    await asyncio.sleep(2 * COMMIT_PACE_S)
    assert bench.groups == [0, 1, 5]


async def test_timer_that_fires_a_little_early_is_not_set_again_and_again(bench, monkeypatch):
    waits = []
    loop = SimpleNamespace(call_later=lambda wait_s, _look: waits.append(wait_s))
    with monkeypatch.context() as patched:
        patched.setattr(bench.committer, "_loop", loop)
        bench.put(1)
    (wait_s,) = waits
    bench.now += wait_s - 0.0015  # as early as a loop may be
    bench.committer._look()
    await until(lambda: bench.groups == [0, 1, 1])


async def test_event_after_a_pause_is_committed_at_once(bench):
    bench.now += COMMIT_PACE_S
    bench.put(1)
    assert bench.committer._committing
    await until(lambda: bench.groups == [0, 1, 1])


async def test_commit_waits_for_no_time_when_somebody_waits_for_it(bench):
    bench.put(1)
    assert not bench.committer._committing
    bench.committer.hurry()
    assert bench.committer._committing
    bench.put(1)
    await until(lambda: bench.groups == [0, 1, 1])
    assert not bench.committer._committing, "that was for once"
    bench.committer.hurry()
    await until(lambda: bench.groups == [0, 1, 1, 1])


async def test_commit_waits_for_no_time_when_credit_runs_out(bench):
    bench.put(HURRY_EVENTS - 1)
    assert not bench.committer._committing
    bench.put(1)
    assert bench.committer._committing
    await until(lambda: bench.groups == [0, 1, HURRY_EVENTS])


async def test_new_epoch_takes_with_it_what_waits(bench):
    bench.put(1)
    bench.committer.advance(Advancing("product", (FIRST,), ORIGIN))
    bench.committer.kick()
    await until(lambda: bench.groups == [0, 1, 1])


async def test_close_commits_what_waits(bench):
    bench.put(3)
    await bench.committer.close()
    assert bench.log.arrival == 4
