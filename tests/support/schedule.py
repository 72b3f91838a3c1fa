"""What a kill campaign does and when, drawn from a seed before anything runs.

Pure: the same seed and count give the same schedule, whatever the machine does meanwhile.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "service",
    "bus",
    "starter",
    "supervisor",
    "two at once",
    "amid start-up",
    "supervisor amid up",
    "supervisor amid stop",
]

WEIGHTS: dict[Kind, int] = {
    "service": 30,
    "bus": 20,
    "starter": 10,
    "supervisor": 14,
    "two at once": 7,
    "amid start-up": 7,
    "supervisor amid up": 4,
    "supervisor amid stop": 4,
}
"""How often each is drawn: supervisors are a fifth of all kills, the bus more than that."""

SERVICES = ("auth", "user", "product", "order")
PROGRAMS = (*SERVICES, "bus")
STARTER = "starter"
SUPERVISOR = "supervisor"

MOMENT_MAX_S = 0.3
"""A start, a restart and a stop take about this long."""

PAUSE_MAX_S = 0.2
"""Between one recovery and the next kill, so that the mesh is met at any point of its work."""


@dataclass(frozen=True)
class Step:
    """One round.

    Attributes:
        victims: who is killed, in this order.
        moment_s: from the beginning of what it is amid to the kill.
        pause_s: before the round.
        at_once: the next `up` does not wait for anything after a kill of the supervisor.
    """

    kind: Kind
    victims: tuple[str, ...]
    moment_s: float
    pause_s: float
    at_once: bool


def schedule(seed: int, kills: int) -> list[Step]:
    """Rounds with that many kills in all, of every kind when there are enough."""
    chance = random.Random(seed)
    kinds = list(WEIGHTS)
    steps: list[Step] = []
    left = kills
    while left > 0:
        if len(steps) < len(kinds):
            kind = kinds[len(steps)]
        else:
            kind = chance.choices(kinds, [*WEIGHTS.values()])[0]
        victims = _victims(kind, chance)[:left]
        left -= len(victims)
        steps.append(
            Step(
                kind,
                victims,
                chance.uniform(0.0, MOMENT_MAX_S),
                chance.uniform(0.0, PAUSE_MAX_S),
                chance.random() < 0.5,
            )
        )
    chance.shuffle(steps)
    return steps


def _victims(kind: Kind, chance: random.Random) -> tuple[str, ...]:
    match kind:
        case "service":
            return (chance.choice(SERVICES),)
        case "bus":
            return ("bus",)
        case "starter":
            return (STARTER,)
        case "two at once":
            return tuple(chance.sample([*PROGRAMS, STARTER], 2))
        case "amid start-up":
            return (chance.choice(PROGRAMS),) * 2
        case _:
            return (SUPERVISOR,)
