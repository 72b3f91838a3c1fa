"""When who comes: the same seed gives the same visitors at the same moments. Pure.

Arrivals are scheduled ahead and do not wait for answers (an open loop): a slow system is asked no
less because it is slow, so its latency is not left out of the account.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from msgspec import Struct

from mesh import clock

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mesh.exercise.scenario import Scenario


class Arrival(Struct, frozen=True):
    """A visitor: when, in seconds from the start, what for, and the seed of all it draws."""

    number: int
    at_s: float
    scenario: int
    seed: int


_SEEDS = 2**32


def arrivals(
    scenarios: Sequence[Scenario], *, rate: float, duration_s: float, ramp_s: float, seed: int
) -> Iterator[Arrival]:
    """Visitors as a Poisson process of `rate` a second; its first `ramp_s` seconds grow from 0.

    Yields: in order of time.
    """
    draw = clock.seeded(seed)
    total = sum(each.weight for each in scenarios)
    load, number = 0.0, 0
    while True:
        load -= math.log(1.0 - draw())
        at_s = _when(load, rate, ramp_s)
        if at_s >= duration_s:
            return
        place = draw() * total
        chosen = 0
        while chosen < len(scenarios) - 1 and place >= scenarios[chosen].weight:
            place -= scenarios[chosen].weight
            chosen += 1
        yield Arrival(number, at_s, chosen, int(draw() * _SEEDS))
        number += 1


def _when(load: float, rate: float, ramp_s: float) -> float:
    """When so many were to be expected: their number is t²·rate/2·ramp in the ramp, then linear."""
    in_ramp = rate * ramp_s / 2
    if load < in_ramp:
        return math.sqrt(2 * ramp_s * load / rate)
    return ramp_s + (load - in_ramp) / rate
