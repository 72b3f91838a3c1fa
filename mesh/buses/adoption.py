"""How a history goes on from an older copy of itself: a new epoch, and what must be told anew; pure.

The new epoch replaces everything that others know beyond its base. Its base is the copy's head,
unless others know events or an epoch that the copy does not: then the two part earlier, the copy's
events beyond the fork are not the ones others have, and they are told again, as the new epoch's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from mesh import codec
from mesh.buses.contract import Epoch, Event, Link, chain_hash

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


class Adoption(Struct, frozen=True):
    """The number of the new epoch, its base, and those of the copy's own epochs that still hold."""

    number: int
    base: int
    kept: tuple[Epoch, ...]


class Others(Struct, frozen=True):
    """What others know of a stream: its epochs, and up to where their events are the copy's too.

    `shared` None: nothing is known to differ. The new epoch's number is beyond `floor`.
    """

    epochs: tuple[Epoch, ...] = ()
    shared: int | None = None
    floor: int = 0


NOBODY = Others()


def adoption(own: Sequence[Epoch], head: Link, others: Others) -> Adoption:
    """How a copy with these epochs and this head goes on, given what others know."""
    mine = {each.epoch: each for each in own}
    strangers = [
        each
        for each in others.epochs
        if each.epoch not in mine or mine[each.epoch].nonce != each.nonce
    ]
    clashing = {each.epoch for each in strangers} & mine.keys()
    bases = [each.base for each in strangers] + [mine[number].base for number in clashing]
    if others.shared is not None:
        bases.append(others.shared)
    return Adoption(
        max([others.floor, *(each.epoch for each in (*own, *others.epochs))]) + 1,
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


def shared(
    own: Callable[[int], Link | None], theirs: Callable[[int], Link | None], head: int
) -> int | None:
    """Up to which number two histories are the same; None if nothing up to `head` differs.

    By halves, since an equal hash proves everything before it. What one side does not keep any
    more is taken to be the same.
    """

    def same(seq: int) -> bool:
        mine, other = own(seq), theirs(seq)
        return mine is None or other is None or mine == other

    if not head or same(head):
        return None
    low, high = 0, head
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if same(middle) else (low, middle)
    return low
