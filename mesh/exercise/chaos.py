"""What is broken when: a schedule drawn from the seed, and what carries it out while a run goes on.

Each kind of fault has a sequence and a pace of its own, so that asking for one more changes nothing
of the others. Only kills stay done; everything else ends by itself, and before the run does.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from mesh import clock, codec
from mesh.configs.complaints import suggestion
from mesh.errors import MeshError, WrongUsage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Kind = Literal["kill", "pause", "latency", "error", "drop", "dup", "reorder"]
KINDS: tuple[Kind, ...] = ("kill", "pause", "latency", "error", "drop", "dup", "reorder")
OF_EVENTS: frozenset[Kind] = frozenset({"drop", "dup", "reorder"})
"""What happens to events on their way, and so to the bus too."""

SUPERVISOR = "supervisor"
BUS = "bus"

EVERY_S = 5.0
"""Between two faults of one kind, give or take a fifth: a program is back long before the next."""

EVERY_S_MIN, EVERY_S_MAX = 0.1, 3600.0
"""What may be asked for in its place; a program needs some tenths of a second to be back."""

GAP = 0.5
"""Faults that come late, because a supervisor had to come up first, follow one another at this share
of their pace: they catch up, and never all at once."""

FOR_S: dict[Kind, tuple[float, float]] = {"kill": (0.0, 0.0), "pause": (0.5, 3.0)}
"""How long a kind lasts, all others for LONG_S; a pause is over before the watchdog's 4 s are."""

LONG_S = (2.0, 4.0)

DELAY_MS = (50, 500)
RATES = {"latency": 0.5, "error": 0.2, "drop": 0.5, "dup": 0.5, "reorder": 0.5}
"""The share of requests or messages that is hit: some get through, as in real trouble."""

WHY_MAX = 200
"""Characters of why a fault could not be made."""

FIRST_S = 2.0
"""A run is let begin well, so that its report shows the difference."""

_SEEDS = 2**32


def plain(number: float) -> str:
    """A number as it is typed, and read again as the very same."""
    return repr(number).removesuffix(".0")


class Fault(Struct, frozen=True):
    """One thing to break: when, in seconds from the start, and for how long."""

    at_s: float
    kind: Kind
    target: str
    for_s: float = 0.0
    rate: float = 1.0
    ms: int = 0
    seed: int = 0


class Paced(Struct, frozen=True):
    """A kind of fault, and how many seconds lie between two of them on average."""

    kind: Kind
    every_s: float = EVERY_S

    def __str__(self) -> str:
        """As `--chaos` takes it."""
        return self.kind if self.every_s == EVERY_S else f"{self.kind}:every={plain(self.every_s)}"


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
            found = (*self.services, *({BUS} & {*self.programs} if kind in OF_EVENTS else ()))
        return tuple(name for name in found if not self.only or name in self.only)


def asked(text: str) -> tuple[Paced, ...]:
    """What `--chaos kill:every=0.8,pause` asks for; of a kind named twice the last word counts.

    Raises: WrongUsage, with a suggestion.
    """
    found: dict[Kind, Paced] = {}
    for word in filter(None, text.replace(" ", ",").split(",")):
        name, _, pace = word.partition(":")
        match = next((kind for kind in KINDS if kind == name), None)
        if match is None:
            raise WrongUsage(
                f"there is no fault `{name}`{suggestion(name, KINDS)}",
                hint=f"there are: {','.join(KINDS)}",
            )
        found[match] = Paced(match, _every_s(word, pace) if pace else EVERY_S)
    return tuple(found.values())


def _every_s(word: str, pace: str) -> float:
    name, _, number = pace.partition("=")
    try:
        every_s = float(number.removesuffix("s"))
    except ValueError:
        every_s = 0.0
    if name != "every" or not EVERY_S_MIN <= every_s <= EVERY_S_MAX:
        raise WrongUsage(
            f"`{word}` does not say how often",
            hint=f"KIND:every=SECONDS, {EVERY_S_MIN:g} to {EVERY_S_MAX:g}: kill:every=0.8",
        )
    return every_s


def schedule(
    paces: Sequence[Paced], targets: Targets, *, duration_s: float, seed: int
) -> tuple[Fault, ...]:
    """Every fault of a run, in order of time: in rounds, each of which hits everybody."""
    found: list[Fault] = []
    for pace in paces:
        kind, every_s = pace.kind, pace.every_s
        draw = clock.seeded(seed * len(KINDS) + KINDS.index(kind))
        at_s = FIRST_S + every_s * (0.2 + 0.6 * draw())
        bag: list[str] = []
        while targets.of(kind) and at_s < duration_s - 1.0:
            bag = bag or _round(targets.of(kind))
            target = bag.pop(int(draw() * len(bag)))
            found.append(_drawn(kind, target, at_s, duration_s, draw))
            at_s += every_s * (0.8 + 0.4 * draw())
    return tuple(sorted(found, key=lambda fault: fault.at_s))


def check(paces: Sequence[Paced], targets: Targets, drawn: Sequence[Fault], end_s: float) -> None:
    """Refuse a fault that would hit nobody, or come never. Raises: WrongUsage."""
    for pace in paces:
        anybody = codec.replace(targets, only=()).of(pace.kind)
        if not targets.of(pace.kind):
            raise WrongUsage(
                f"`{pace.kind}` can hit none of {', '.join(targets.only or targets.everybody)}",
                hint=f"it can hit: {', '.join(anybody)}" if anybody else "mesh ps",
            )
        if all(fault.kind != pace.kind for fault in drawn):
            raise WrongUsage(
                f"in {end_s:g} s `{pace}` breaks nothing: the first comes after some"
                f" {FIRST_S + pace.every_s / 2:g} s, and a second must be left",
                hint=f"--duration {FIRST_S + 2 * pace.every_s:g}",
            )


def _round(names: Sequence[str]) -> list[str]:
    """Whom one round hits: the supervisor once, whose end is everybody's, all others twice."""
    return sorted([*names, *(name for name in names if name != SUPERVISOR)])


def _drawn(kind: Kind, target: str, at_s: float, end_s: float, draw: Callable[[], float]) -> Fault:
    long, much, seed = draw(), draw(), int(draw() * _SEEDS)
    low, high = FOR_S.get(kind, LONG_S)
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
        end_s: nothing is broken any more from then on, seconds from the beginning.
    """

    faults: tuple[Fault, ...]
    inflict: Callable[[Fault], None]
    fell: Callable[[], None]
    end_s: float
    done: list[Inflicted] = field(default_factory=list)

    async def run(self, begun_s: float, stop: asyncio.Event) -> None:
        """From the first fault to the last that there is time for."""
        planned_s = made_s = 0.0
        for fault in self.faults:
            due_s = max(fault.at_s, made_s + GAP * (fault.at_s - planned_s))
            if due_s >= self.end_s:
                return
            left_s = begun_s + due_s - clock.monotonic_s()
            if left_s > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left_s):
                        await stop.wait()
            if stop.is_set():
                return
            await self._make(fault, begun_s)
            planned_s, made_s = fault.at_s, clock.monotonic_s() - begun_s

    async def _make(self, fault: Fault, begun_s: float) -> None:
        at_s, refused = clock.monotonic_s() - begun_s, None
        try:
            if fault.target == SUPERVISOR:
                await asyncio.to_thread(self.fell)
            else:
                await asyncio.to_thread(self.inflict, fault)
        except MeshError as error:
            refused = " ".join("; ".join((error.detail, *error.evidence)).split())[:WHY_MAX]
        took_s = clock.monotonic_s() - begun_s - at_s
        self.done.append(Inflicted(fault, round(at_s, 3), round(took_s, 3), refused))
