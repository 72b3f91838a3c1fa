"""How a history goes on from an older copy of itself: a new epoch, and what must be told anew; pure.

The new epoch replaces everything that others know beyond its base. Its base is the copy's head,
unless others know an epoch that the copy does not: then the copy is of another branch, its events
beyond the fork are no longer the ones others have, and they are told again, as the new epoch's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from mesh import codec
from mesh.buses.contract import Epoch, Event, Link, chain_hash

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Adoption(Struct, frozen=True):
    """The number of the new epoch, its base, and those of the copy's own epochs that still hold."""

    number: int
    base: int
    kept: tuple[Epoch, ...]


def adoption(own: Sequence[Epoch], head: Link, known: Iterable[Epoch], floor: int = 0) -> Adoption:
    """How a copy with these epochs and this head goes on, given every epoch that others know.

    Args:
        floor: the new epoch's number is beyond this one.
    """
    others = list(known)
    mine = {each.epoch: each for each in own}
    strangers = [
        each for each in others if each.epoch not in mine or mine[each.epoch].nonce != each.nonce
    ]
    clashing = {each.epoch for each in strangers} & mine.keys()
    bases = [each.base for each in strangers] + [mine[number].base for number in clashing]
    return Adoption(
        max([floor, *(each.epoch for each in [*own, *others])]) + 1,
        min([head.seq, *bases]),
        tuple(each for each in own if each.epoch not in clashing),
    )


def told_again(events: Iterable[Event], epoch: int, base: Link) -> list[Event]:
    """The same events, in order, as those of another epoch that begins after `base`."""
    found: list[Event] = []
    for event in events:
        digest = chain_hash(
            *(base.hash, epoch, event.seq, event.id, event.type, event.key, event.ts_ms),
            *(event.trace, event.body),
        )
        found.append(
            codec.replace(
                event, epoch=epoch, prev_epoch=base.epoch, prev_hash=base.hash, hash=digest
            )
        )
        base = found[-1].link
    return found
