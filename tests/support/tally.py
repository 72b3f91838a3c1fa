"""What a kill campaign counted, and what that shows."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import TYPE_CHECKING

from tests.support.load import quantiles_ms
from tests.support.schedule import SUPERVISOR

if TYPE_CHECKING:
    from tests.support.buyer import Buyer


class Tally:
    """Counts of one campaign.

    Attributes:
        kills: how many of which kind.
        missed: kills that came when their victim had ended by itself.
        back_ms: from a kill until the victim did its work again, by kind.
        gone_ms: from a kill of the supervisor until nothing of that mesh lived.
        up_ms: `mesh up -d` after that, the whole command.
        wrongs: whatever should not have been, in words.
    """

    def __init__(self) -> None:
        """Nothing has happened yet."""
        self.kills: dict[str, int] = defaultdict(int)
        self.missed = 0
        self.back_ms: dict[str, list[float]] = defaultdict(list)
        self.gone_ms: list[float] = []
        self.up_ms: list[float] = []
        self.wrongs: list[str] = []
        self.orphans = 0
        self.stale = 0
        self._begun_s = time.monotonic()

    @property
    def total(self) -> int:
        """All kills."""
        return sum(self.kills.values())

    def killed(self, kind: str, took_s: float) -> None:
        """One was killed, and was back after so many seconds."""
        self.kills[kind] += 1
        self.back_ms[kind].append(took_s * 1e3)

    def so_far(self, wanted: int, buyer: Buyer) -> str:
        """A line while it goes on."""
        return (
            f"{self.total:5} of {wanted} kills  {time.monotonic() - self._begun_s:6.1f} s"
            f"  {len(buyer.placed)} orders  orphans {self.orphans}  stale {self.stale}"
            f"  refused {buyer.refused}  wrong {len(self.wrongs) + len(buyer.wrongs)}"
        )

    def summary(self, buyer: Buyer) -> str:
        """The whole campaign, for a person."""
        total = self.total
        supervisors = sum(n for kind, n in self.kills.items() if kind.startswith(SUPERVISOR))
        rows = "".join(
            f"  {kind:22}{count:6}"
            + (f"  back after {quantiles_ms(self.back_ms[kind])}" if kind in self.back_ms else "")
            + "\n"
            for kind, count in sorted(self.kills.items())
        )
        bound = f"{300 / total:.2g} %" if total else "100 %"
        return (
            f"{total} kills in {time.monotonic() - self._begun_s:.0f} s, {len(buyer.placed)} orders"
            f" placed meanwhile; {self.missed} kills came too late and are not counted\n{rows}"
            "  (with the backoff of programs killed again before they were ready for 10 s)\n"
            f"after {supervisors} kills of the supervisor: all gone after"
            f" {quantiles_ms(self.gone_ms)}\n"
            f"next `mesh up -d` ready after {quantiles_ms(self.up_ms)}\n"
            f"orphans {self.orphans}, stale locks or sockets {self.stale}, refused connections"
            f" {buyer.refused}, wrong in all {len(self.wrongs)}"
            f" (0 of {total} means: at most {bound} at 95 %)"
        )


def gaps(events: list[dict[str, str]]) -> list[str]:
    """What is wrong with a log in which every event should be once and in order in its stream."""
    streams: dict[str, list[int]] = defaultdict(list)
    for event in events:
        streams[event["stream"]].append(int(event["sequence"]))
    wrongs = [
        f"the events of {name} are not contiguous"
        for name, sequences in streams.items()
        if sequences != list(range(1, len(sequences) + 1))
    ]
    if len({event["id"] for event in events}) != len(events):
        wrongs.append("an event is there twice")
    return wrongs
