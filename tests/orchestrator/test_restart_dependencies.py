"""Several lives at once: gates between programs, replayed without starting one.

Each step says what happens to whom; then the states of all are as told. Gates are opened after each
step as the supervisor does it.
"""

from __future__ import annotations

import pytest

from mesh.config import Dependency, RestartPolicy
from mesh.orchestrator import plan
from mesh.orchestrator.contract import Program
from mesh.orchestrator.life import Exited, Life, Ready, Said, Start, Stop, Tick, Unstartable
from mesh.orchestrator.restart import decide

HEALTHY = Dependency("service_healthy")
STARTED = Dependency("service_started")
DONE = Dependency("service_completed_successfully")
DONE_IF_CAN = Dependency("service_completed_successfully", required=False)
HEALTHY_IF_CAN = Dependency("service_healthy", required=False)

ONCE = RestartPolicy("no")


class World:
    """Programs `a` (depended on) and `b`, `c` (which depend), all asked to start."""

    def __init__(self, restart, **needs):
        self.programs = {
            "a": Program(name="a", entry="m:f", restart=restart),
            **{
                name: Program(name=name, entry="m:f", depends_on=needed)
                for name, needed in needs.items()
            },
        }
        self.lives = {name: Life() for name in self.programs}
        self.now_s = 0.0
        for name in self.programs:
            self.happens(name, Start())

    def happens(self, name, event, at_s=None):
        self.now_s = self.now_s if at_s is None else at_s
        self._decide(name, event)
        opened = True
        while opened:
            opened = False
            for other, life in self.lives.items():
                if life.waiting:
                    self._decide(other, plan.gate(self.programs[other], self.lives))
                    opened |= not self.lives[other].waiting

    def _decide(self, name, event):
        decision = decide(self.programs[name], self.lives[name], event, self.now_s, 1.0)
        self.lives[name] = decision.life

    @property
    def states(self):
        """State of each; `waiting` for one that starts without a process."""
        return tuple(
            "waiting" if life.waiting and life.state == "starting" else life.state
            for life in self.lives.values()
        )


ON_FAILURE, TWICE = RestartPolicy("on-failure"), RestartPolicy("on-failure", 2)

HISTORIES = {
    "waits until what it needs is healthy": (
        ON_FAILURE,
        {"b": {"a": HEALTHY}},
        [
            (None, ("starting", "waiting")),
            (("a", Said("migrating"), 1), ("starting", "waiting")),
            (("a", Ready(), 2), ("ready", "starting")),
        ],
    ),
    "starts with what it needs when started is enough": (
        ON_FAILURE,
        {"b": {"a": STARTED}},
        [(None, ("starting", "starting"))],
    ),
    "degraded is healthy enough": (
        ON_FAILURE,
        {"b": {"a": HEALTHY}, "c": {"b": HEALTHY}},
        [
            (None, ("starting", "waiting", "waiting")),
            (("a", Ready(), 1), ("ready", "starting", "waiting")),
            (("a", Said("disk full"), 2), ("degraded", "starting", "waiting")),
            (("b", Ready(), 3), ("degraded", "ready", "starting")),
        ],
    ),
    "waits through the crashes of what it needs": (
        ON_FAILURE,
        {"b": {"a": HEALTHY}},
        [
            (None, ("starting", "waiting")),
            (("a", Exited(1), 1), ("backoff", "waiting")),
            (("a", Tick(), 1.2), ("starting", "waiting")),
            (("a", Exited(1), 2), ("backoff", "waiting")),
            (("a", Tick(), 2.4), ("starting", "waiting")),
            (("a", Ready(), 3), ("ready", "starting")),
        ],
    ),
    "fails with what it needs": (
        TWICE,
        {"b": {"a": HEALTHY}, "c": {"b": HEALTHY}},
        [
            (None, ("starting", "waiting", "waiting")),
            (("a", Exited(1), 1), ("backoff", "waiting", "waiting")),
            (("a", Tick(), 1.2), ("starting", "waiting", "waiting")),
            (("a", Exited(1), 2), ("failed", "failed", "failed")),
        ],
    ),
    "starts without what it would only have liked": (
        ONCE,
        {"b": {"a": HEALTHY_IF_CAN}},
        [(None, ("starting", "waiting")), (("a", Exited(1), 1), ("failed", "starting"))],
    ),
    "starts when what failed is mended": (
        ONCE,
        {"b": {"a": HEALTHY}},
        [
            (None, ("starting", "waiting")),
            (("a", Exited(1), 1), ("failed", "failed")),
            (("a", Start(), 2), ("starting", "waiting")),
            (("a", Ready(), 3), ("ready", "starting")),
        ],
    ),
    "is not stopped by what goes away later": (
        ON_FAILURE,
        {"b": {"a": HEALTHY}},
        [
            (None, ("starting", "waiting")),
            (("a", Ready(), 1), ("ready", "starting")),
            (("b", Ready(), 2), ("ready", "ready")),
            (("a", Exited(-9), 3), ("backoff", "ready")),
            (("b", Exited(-9), 20), ("backoff", "starting")),
        ],
    ),
    "a restart of its own waits for nobody": (
        ON_FAILURE,
        {"b": {"a": HEALTHY}},
        [
            (None, ("starting", "waiting")),
            (("a", Ready(), 1), ("ready", "starting")),
            (("b", Ready(), 2), ("ready", "ready")),
            (("a", Stop(), 3), ("stopping", "ready")),
            (("a", Exited(0), 3), ("stopped", "ready")),
            (("b", Exited(1), 20), ("stopped", "starting")),
        ],
    ),
    "does not wait for what was stopped on purpose": (
        ON_FAILURE,
        {"b": {"a": HEALTHY}},
        [
            (None, ("starting", "waiting")),
            (("a", Stop(), 1), ("stopping", "starting")),
        ],
    ),
    "starts after a job that was done": (
        ON_FAILURE,
        {"b": {"a": DONE}},
        [
            (None, ("starting", "waiting")),
            (("a", Ready(), 1), ("ready", "waiting")),
            (("a", Exited(0), 5), ("stopped", "starting")),
        ],
    ),
    "does not start after a job that failed": (
        ONCE,
        {"b": {"a": DONE}},
        [(None, ("starting", "waiting")), (("a", Exited(3), 1), ("failed", "failed"))],
    ),
    "starts after a job that failed, if that was only wished for": (
        ONCE,
        {"b": {"a": DONE_IF_CAN}},
        [(None, ("starting", "waiting")), (("a", Exited(3), 1), ("failed", "starting"))],
    ),
    "waits while a job is tried again": (
        ON_FAILURE,
        {"b": {"a": DONE}},
        [
            (None, ("starting", "waiting")),
            (("a", Exited(3), 1), ("backoff", "waiting")),
            (("a", Tick(), 1.2), ("starting", "waiting")),
            (("a", Exited(0), 2), ("stopped", "starting")),
        ],
    ),
    "fails with a job that could not even be made": (
        ON_FAILURE,
        {"b": {"a": DONE}},
        [
            (None, ("starting", "waiting")),
            (("a", Unstartable("cannot run nonesuch"), 1), ("failed", "failed")),
        ],
    ),
    "fails with a job that says it is configured wrongly": (
        ON_FAILURE,
        {"b": {"a": DONE}},
        [(None, ("starting", "waiting")), (("a", Exited(78), 1), ("failed", "failed"))],
    ),
    "stops waiting when it is stopped": (
        ON_FAILURE,
        {"b": {"a": HEALTHY}},
        [
            (None, ("starting", "waiting")),
            (("b", Stop(), 1), ("starting", "stopped")),
            (("a", Ready(), 2), ("ready", "stopped")),
        ],
    ),
}


@pytest.mark.parametrize("name", HISTORIES)
def test_dependent(name):
    restart, needs, steps = HISTORIES[name]
    world = World(restart, **needs)
    for step, states in steps:
        if step is not None:
            world.happens(*step)
        assert (step, world.states) == (step, states)


def test_one_that_waits_says_for_what():
    world = World(ON_FAILURE, b={"a": HEALTHY})
    assert world.lives["b"].cause == "waits for a (service_healthy)"


def test_one_that_is_blocked_says_by_whom():
    world = World(ONCE, b={"a": DONE})
    world.happens("a", Exited(1), 1.0)
    assert world.lives["b"].cause == "a failed"
