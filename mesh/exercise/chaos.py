"""What is broken when: a schedule drawn from the seed, and what carries it out while a run goes on.

Each kind of fault has a sequence of its own, so that asking for one more changes nothing of the
others. Only kills stay done; everything else ends by itself, and before the run does.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from mesh import clock
from mesh.configs.complaints import suggestion
from mesh.errors import MeshError, WrongUsage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Kind = Literal["kill", "pause", "latency", "error", "drop"]
KINDS: tuple[Kind, ...] = ("kill", "pause", "latency", "error", "drop")

SUPERVISOR = "supervisor"
BUS = "bus"

EVERY_S = 5.0
"""Between two faults of one kind, give or take a fifth: a program is back long before the next."""

FOR_S = {"pause": (0.5, 3.0), "latency": (2.0, 4.0), "error": (2.0, 4.0), "drop": (2.0, 4.0)}
"""How long each kind lasts; a pause stays below the 4 s after which the watchdog replaces."""

DELAY_MS = (50, 500)
RATES = {"latency": 0.5, "error": 0.2, "drop": 0.5}
"""The share of requests or messages that is hit: some get through, as in real trouble."""

FIRST_S = 2.0
"""A run is let begin well, so that its report shows the difference."""

_SEEDS = 2**32


class Fault(Struct, frozen=True):
    """One thing to break: when, in seconds from the start, and for how long."""

    at_s: float
    kind: Kind
    target: str
    for_s: float = 0.0
    rate: float = 1.0
    ms: int = 0
    seed: int = 0


class Inflicted(Struct, frozen=True):
    """A fault that was carried out, or why it could not be."""

    fault: Fault
    at_s: float
    took_s: float
    refused: str | None = None


class Targets(Struct, frozen=True):
    """Whom faults can hit: every program, and those among them that can be broken inside.

    `only`: none but these.
    """

    programs: tuple[str, ...]
    services: tuple[str, ...]
    only: tuple[str, ...] = ()

    @property
    def everybody(self) -> tuple[str, ...]:
        """Every name that may be hit."""
        return (*self.programs, SUPERVISOR)

    def of(self, kind: Kind) -> tuple[str, ...]:
        """Everybody whom this kind can hit."""
        if kind == "kill":
            found = self.everybody
        elif kind == "pause":
            found = self.programs
        else:
            found = (*self.services, *({BUS} & {*self.programs} if kind == "drop" else ()))
        return tuple(name for name in found if not self.only or name in self.only)


def kinds(text: str) -> tuple[Kind, ...]:
    """What `--chaos kill,pause` asks for. Raises: WrongUsage, with a suggestion."""
    found: list[Kind] = []
    for word in filter(None, text.replace(" ", ",").split(",")):
        match = next((kind for kind in KINDS if kind == word), None)
        if match is None:
            raise WrongUsage(
                f"there is no fault `{word}`{suggestion(word, KINDS)}",
                hint=f"there are: {','.join(KINDS)}",
            )
        found.append(match)
    return tuple(dict.fromkeys(found))


def schedule(
    asked: Sequence[Kind], targets: Targets, *, duration_s: float, seed: int
) -> tuple[Fault, ...]:
    """Every fault of a run, in order of time; nobody is hit twice before everybody was."""
    found: list[Fault] = []
    for kind in asked:
        draw = clock.seeded(seed * len(KINDS) + KINDS.index(kind))
        at_s = FIRST_S + EVERY_S * (0.2 + 0.6 * draw())
        bag: list[str] = []
        while targets.of(kind) and at_s < duration_s - 1.0:
            bag = bag or [*targets.of(kind)]
            target = bag.pop(int(draw() * len(bag)))
            found.append(_drawn(kind, target, at_s, duration_s, draw))
            at_s += EVERY_S * (0.8 + 0.4 * draw())
    return tuple(sorted(found, key=lambda fault: fault.at_s))


def _drawn(kind: Kind, target: str, at_s: float, end_s: float, draw: Callable[[], float]) -> Fault:
    long, much, seed = draw(), draw(), int(draw() * _SEEDS)
    low, high = FOR_S.get(kind, (0.0, 0.0))
    return Fault(
        at_s=round(at_s, 3),
        kind=kind,
        target=target,
        for_s=round(min(low + long * (high - low), end_s - at_s), 3),
        rate=RATES.get(kind, 1.0),
        ms=round(DELAY_MS[0] + much * (DELAY_MS[1] - DELAY_MS[0])) if kind == "latency" else 0,
        seed=seed,
    )


@dataclass
class Chaos:
    """Carries a schedule out; both functions may wait, and run on a thread.

    Attributes:
        inflict: breaks something by the mesh's own means.
        fell: kills the supervisor, and brings the mesh up again.
    """

    faults: tuple[Fault, ...]
    inflict: Callable[[Fault], None]
    fell: Callable[[], None]
    done: list[Inflicted] = field(default_factory=list)

    async def run(self, begun_s: float, stop: asyncio.Event) -> None:
        """From the first fault to the last; those that are due while another is made come late."""
        for fault in self.faults:
            left_s = begun_s + fault.at_s - clock.monotonic_s()
            if left_s > 0:
                try:
                    async with asyncio.timeout(left_s):
                        await stop.wait()
                except TimeoutError:
                    pass
            if stop.is_set():
                return
            await self._make(fault, begun_s)

    async def _make(self, fault: Fault, begun_s: float) -> None:
        at_s, refused = clock.monotonic_s() - begun_s, None
        try:
            if fault.target == SUPERVISOR:
                await asyncio.to_thread(self.fell)
            else:
                await asyncio.to_thread(self.inflict, fault)
        except MeshError as error:
            refused = error.detail
        took_s = clock.monotonic_s() - begun_s - at_s
        self.done.append(Inflicted(fault, round(at_s, 3), round(took_s, 3), refused))
