"""How far a start has come, told line by line from the statuses and transitions of a mesh."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh import clock
from mesh.commands import output
from mesh.commands.ps import FINISHED, STYLES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

UP = ("ready", "degraded")


class Progress:
    """Follows the programs named, from `begun_s` on the monotonic clock; tells stderr.

    Attributes:
        failed: name and cause of those that have failed, in that order.
        evidence: the last log lines of each of those.
    """

    def __init__(self, names: Sequence[str], begun_s: float) -> None:
        """Nothing is known yet."""
        self._states: dict[str, str] = dict.fromkeys(names, "")
        self._urls: dict[str, object] = {}
        self._begun_s = begun_s
        self._width = max((len(name) for name in names), default=0)
        self.failed: dict[str, str] = {}
        self.evidence: dict[str, tuple[str, ...]] = {}

    @property
    def elapsed_s(self) -> float:
        """Seconds since the beginning."""
        return clock.monotonic_s() - self._begun_s

    @property
    def pending(self) -> list[str]:
        """Those that are neither up, nor done, nor failed."""
        return [
            name for name, state in self._states.items() if state not in {*UP, "failed", "done"}
        ]

    def take(self, said: Mapping[str, object]) -> None:
        """A status (it has `services`) or a transition, as the plain dict of its JSON."""
        rows = said.get("services")
        if not isinstance(rows, list | tuple):
            self._move(said, said.get("new"))
            return
        for row in rows:
            self._urls[str(row["name"])] = row.get("url")
            if row["state"] not in {"stopped", "starting"} or row.get("cause") == FINISHED:
                self._move(row, row["state"])

    def _move(self, row: Mapping[str, object], state: object) -> None:
        name, cause = str(row["name"]), str(row.get("cause") or "")
        if name not in self._states:
            return
        new = "done" if state == "stopped" and cause == FINISHED else str(state)
        if self._states[name] == new:
            return
        self._states[name] = new
        self.failed.pop(name, None)
        if new == "failed":
            self.failed[name] = cause
            lines = row.get("evidence")
            self.evidence[name] = tuple(map(str, lines)) if isinstance(lines, list | tuple) else ()
        if new != "starting" and (new, cause) != ("stopped", "asked"):
            self._tell(name, new, cause)

    def _tell(self, name: str, state: str, cause: str) -> None:
        up = state in UP
        where = f"  {self._urls[name]}" if up and self._urls.get(name) else ""
        why = f"  {cause}" if cause and not up else ""
        output.note(
            f"{name:<{self._width}}  ",
            (f"{state:<8}", STYLES.get(state, "faint")),
            f" {self.elapsed_s:.1f} s{where}{why}",
        )

    def summary(self, stop: str) -> None:
        """The line that ends a start that went well, with what to do next."""
        count = len(self._states)
        call = "mesh call order create" if "order" in self._states else "mesh call"
        output.note(
            (f"{count} service{'' if count == 1 else 's'} ready", "good"),
            f" in {self.elapsed_s:.1f}s   call: {call}   stop: {stop}",
        )
