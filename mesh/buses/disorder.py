"""What a bad way does to messages, on purpose: it loses some, brings some twice, lets some overtake.

Each fault has a deadline, a share and a seed of its own. None is lost but by `drop`: what is held
back comes when a few others have passed, and with the next message once the fault is over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, TypeVar, cast

from msgspec import Meta, Struct

from mesh import clock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

FOR_S_MAX = 3600.0

PASSED_MAX = 3
"""Messages that overtake one that is held back, at most."""

LATE_MAX = 64
"""Messages held back at a time; beyond them all come in their order."""

Kind = Literal["drop", "dup", "reorder"]


class Disturbance(Struct, frozen=True, forbid_unknown_fields=True):
    """One fault: the share `rate` of messages is hit, for `for_s` seconds."""

    kind: Kind
    for_s: Annotated[float, Meta(gt=0, le=FOR_S_MAX)]
    rate: Annotated[float, Meta(ge=0, le=1)] = 1.0
    seed: Annotated[int, Meta(ge=0)] = 0


class _Held:
    def __init__(self, asked: Disturbance) -> None:
        self.rate = asked.rate
        self.until_s = clock.monotonic_s() + asked.for_s
        self.draw: Callable[[], float] = clock.seeded(asked.seed)


class Disorder:
    """The way of one sort of message. At most one fault of each kind at a time."""

    def __init__(self) -> None:
        """A good way."""
        self._faults: dict[Kind, _Held] = {}
        self._late: list[tuple[int, object]] = []

    @property
    def calm(self) -> bool:
        """Whether every message comes as it is sent, and none is held back."""
        return not self._faults and not self._late

    def begin(self, asked: Disturbance) -> None:
        """Disturb it, in the place of an older fault of the kind."""
        self._faults[asked.kind] = _Held(asked)

    def end(self) -> None:
        """A good way again; what is held back comes with the next message."""
        self._faults.clear()

    def through(self, message: T) -> Sequence[T]:
        """What arrives when this is sent, in this order."""
        if self.calm:
            return (message,)
        arrived: list[T] = []
        if self._hits("drop") is None:
            late = self._hits("reorder")
            if late is not None and len(self._late) < LATE_MAX:
                # one more, since this very message is counted among those that pass
                self._late.append((2 + int(late.draw() * PASSED_MAX), message))
            else:
                arrived = [message, message] if self._hits("dup") is not None else [message]
        hurry = "reorder" not in self._faults
        passed = [(left - 1, each) for left, each in self._late]
        self._late = [] if hurry else [each for each in passed if each[0] > 0]
        return [*arrived, *(cast("T", each) for left, each in passed if hurry or left <= 0)]

    def all_through(self, messages: Sequence[T]) -> Sequence[T]:
        """What arrives of these when they are sent together; none is held back beyond the last."""
        arrived = [each for message in messages for each in self.through(message)]
        late, self._late = self._late, []
        return [*arrived, *(cast("T", each) for _, each in late)]

    def _hits(self, kind: Kind) -> _Held | None:
        """The fault that hits this message; drawn in order, so a seed always hits the same."""
        held = self._faults.get(kind)
        if held is None:
            return None
        if clock.monotonic_s() >= held.until_s:
            del self._faults[kind]
            return None
        return held if held.draw() < held.rate else None
