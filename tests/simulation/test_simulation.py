"""Seeds in which everything fails, and rules left out that a seed must notice."""

from __future__ import annotations

import os

import pytest

from mesh.buses.zmq.protocol import broker, consumer, producer
from mesh.framework.inbox import ServiceInbox
from tests.simulation.world import simulate

SEEDS = int(os.environ.get("MESH_BUS_SEEDS", "200"))
BATCHES = 8
REGRESSIONS = (20_000,)
"""Seeds that failed once, and one that did not to begin with. Add yours: the story of a seed
changes only with the simulation."""

SABOTAGE_SEEDS = 60
"""Stories within which a missing rule must have been noticed."""

RESTORES = 20
"""How often in a hundred the producer is restored in them: what only a restore shows must show."""


def _replay(seed: int, story: list[str]) -> str:
    return "\n".join([*story, f"replay: make simulate SEED={seed}"])


@pytest.mark.campaign
@pytest.mark.parametrize("batch", range(BATCHES))
def test_nothing_is_lost_or_doubled_whatever_happens(batch):
    for seed in range(batch, SEEDS, BATCHES):
        story = simulate(seed)
        assert not story[-1].startswith("WRONG"), _replay(seed, story)


def test_seeds_that_failed_once_do_so_no_more():
    for seed in REGRESSIONS:
        story = simulate(seed)
        assert not story[-1].startswith("WRONG"), _replay(seed, story)


def test_seed_tells_the_same_story_each_time():
    assert simulate(6) == simulate(6)


def _deaf(step):
    return lambda state, event, now: (
        (state, ()) if type(event).__name__ == "Batch" else step(state, event, now)
    )


async def _notes_nothing(self, stream, epoch, base):
    return await self.cursor(stream)


SABOTAGE = {
    "nothing is sent again": (producer, "_go_back", lambda state, *_: (state, ())),
    "the bus takes what was replaced": (broker, "replaced", lambda *_: False),
    "the bus takes holes": (broker, "extends", lambda event, head: event.seq > head.seq),
    "a new epoch cuts nothing": (broker, "cut", lambda head, *_: head),
    "what is missing is never taken": (consumer, "step", _deaf(consumer.step)),
    "the inbox notes no epoch": (ServiceInbox, "notice", _notes_nothing),
}


@pytest.mark.campaign
@pytest.mark.parametrize("what", SABOTAGE)
def test_simulation_notices_when(what, monkeypatch):
    monkeypatch.setattr(*SABOTAGE[what])
    for seed in range(SABOTAGE_SEEDS):
        if simulate(seed, RESTORES)[-1].startswith("WRONG"):
            return
    pytest.fail(f"{SABOTAGE_SEEDS} stories in which {what}, and nothing was wrong")
