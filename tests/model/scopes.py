"""What is explored: the two halves of the protocol, in the sizes that can be finished.

The bus answers its producer without looking at consumers, and its consumers without looking at
the producer; both halves meet in the log alone. So they are explored apart: `upstream` is the
shipped producer and bus, `downstream` the shipped bus and consumer, fed by a producer that may say
whatever any producer could. What holds there holds of the whole; their states are added, not
multiplied. The whole is explored too, where it is small enough.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

from mesh.buses.zmq.protocol import consumer, producer
from tests.model.explore import Explorer
from tests.model.machine import Knobs, Machine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.model.explore import Found, Progress
    from tests.model.mutants import Mutant

ROWS_MAX = 2
"""Rows that producer, consumer and buffer take at once, in place of hundreds."""

MUTANT_STATES_MAX = 300_000
SECONDS_MAX = 3600.0


class Scope(NamedTuple):
    """`less`: so many events fewer than asked for, where more is going on otherwise.

    `talks` are conversations the producer may begin beside the one of its restore; `crashes` are
    those of the bus, or commits for which there is no space. A consumer may crash and a bus forget
    its consumers any number of times. `prompt`: the inbox answers before anything else arrives. `rows`:
    so many events in one PUT.
    """

    title: str
    side: str
    less: int = 0
    talks: int = 1
    crashes: int = 1
    prompt: bool = True
    rows: int = 1


SCOPES = (
    Scope("producer and bus", "upstream"),
    Scope("producer and bus, conversations lost", "upstream", less=1, talks=2),
    Scope("producer and bus, several in a PUT", "upstream", less=1, rows=2),
    Scope("bus and consumer", "downstream", crashes=0),
    Scope("bus and consumer, a slow inbox", "downstream", less=1, crashes=0, prompt=False),
    Scope("bus and consumer, shown and lost", "downstream", less=1),
    Scope("all three", "whole", less=2, crashes=0),
)


@contextlib.contextmanager
def small_bounds(rows: int = 1) -> Iterator[None]:
    with contextlib.ExitStack() as undo:
        for module, name, value in (
            (producer, "READ_ROWS_MAX", rows),
            (consumer, "APPLY_EVENTS_MAX", ROWS_MAX),
            (consumer, "BUFFER_EVENTS_MAX", ROWS_MAX),
        ):
            undo.callback(setattr, module, name, getattr(module, name))
            setattr(module, name, value)
        yield


def explore(scope: Scope, events: int, *, states_max: int, told: Progress | None = None) -> Found:
    machine = Machine(
        events=events - scope.less,
        talks=scope.talks,
        crashes=scope.crashes,
        restores=1,
        knobs=Knobs(),
        scope=scope.side,
        prompt=scope.prompt,
    )
    with small_bounds(scope.rows):
        return Explorer(machine).explore(states_max, SECONDS_MAX, told)


def explore_mutant(mutant: Mutant) -> Found:
    from tests.model.mutants import switched_on

    machine = Machine(
        events=mutant.events,
        talks=mutant.talks,
        crashes=int(mutant.side == "upstream" or not mutant.knobs.outbox_durable),
        restores=1,
        knobs=mutant.knobs,
        scope=mutant.side,
        prompt=True,
    )
    with small_bounds(), switched_on(mutant):
        return Explorer(machine).explore(MUTANT_STATES_MAX, SECONDS_MAX)
