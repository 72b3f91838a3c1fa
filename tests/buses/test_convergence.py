"""The three roles together: whatever happens, nothing is lost, doubled or out of order."""

from __future__ import annotations

import pytest

from tests.buses.world import World

SEEDS = 40
HEAL_S = 12.0
"""Longer than every timeout of the protocol, and than the latest message still on its way."""


def _story(world: World, *, restores: bool) -> None:
    for _ in range(120):
        what = world.random.random()
        if what < 0.5:
            for _ in range(world.random.randrange(1, 6)):
                world.tell()
        elif what < 0.54:
            world.start_producer()
        elif what < 0.58:
            world.start_bus()
        elif what < 0.59:
            world.start_bus(empty=True)
        elif what < 0.63:
            world.start_consumer()
        elif what < 0.65 and restores:
            world.restore()
        world.run(world.random.uniform(0.0, 0.2))
        world.check_safety()


@pytest.mark.parametrize("restores", [False, True])
def test_cursor_reaches_head_when_the_faults_end(restores):
    for seed in range(SEEDS):
        world = World(seed)
        try:
            _story(world, restores=restores)
            world.trouble = False
            world.run(HEAL_S)
            world.check_converged()
        except AssertionError as error:
            error.add_note(f"seed {seed}, restores {restores}")
            raise
