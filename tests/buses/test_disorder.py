"""A bad way: what it does to messages is drawn by a seed, ends, and loses none but on request."""

from __future__ import annotations

import pytest

from mesh import clock
from mesh.bus import Disorder, Disturbance
from mesh.buses.disorder import LATE_MAX, PASSED_MAX

COUNT = 500


def disturbed(*kinds, rate=0.5, seed=3, for_s=60.0):
    way = Disorder()
    for kind in kinds:
        way.begin(Disturbance(kind, for_s, rate, seed))
    return way


def sent(way, messages):
    return [each for message in messages for each in way.through(message)]


def test_good_way_brings_everything_as_it_was_sent():
    way = Disorder()
    assert way.calm
    assert sent(way, range(COUNT)) == [*range(COUNT)]


def test_drop_loses_a_share():
    found = sent(disturbed("drop", rate=0.3), range(COUNT))
    assert found == sorted(found)
    assert 0.6 < len(found) / COUNT < 0.8


def test_dup_brings_a_share_twice():
    found = sent(disturbed("dup", rate=0.3), range(COUNT))
    assert found == sorted(found)
    assert {*found} == {*range(COUNT)}
    assert 1.2 < len(found) / COUNT < 1.4


@pytest.mark.parametrize("rate", [0.1, 0.5, 1.0])
def test_reorder_lets_a_few_pass_and_loses_none(rate):
    way = disturbed("reorder", rate=rate)
    found = sent(way, range(COUNT))
    late = [each - place for place, each in enumerate(found)]
    assert found != sorted(found)
    assert min(late) >= -LATE_MAX
    way.end()
    found += way.through(COUNT)
    assert way.calm
    assert sorted(found) == [*range(COUNT + 1)]
    for place, each in enumerate(found):
        assert sum(other > each for other in found[:place]) <= PASSED_MAX


def test_same_seed_does_the_same():
    kinds = ("drop", "dup", "reorder")
    runs = [sent(disturbed(*kinds, seed=seed), range(COUNT)) for seed in (3, 3, 4)]
    assert runs[0] == runs[1] != runs[2]


def test_messages_sent_together_arrive_together():
    way = disturbed("reorder", rate=0.7)
    for size in (1, 2, 5, 50):
        assert sorted(way.all_through(range(size))) == [*range(size)]
    assert way.all_through([]) == []


def test_it_ends_at_its_deadline(monkeypatch):
    now = clock.monotonic_s()
    monkeypatch.setattr(clock, "monotonic_s", lambda: now)
    way = disturbed("drop", "dup", "reorder", rate=1.0, for_s=5.0)
    assert way.through(1) == []
    now += 5.1
    assert way.through(2) == [2]
    assert way.calm
