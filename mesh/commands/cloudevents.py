"""Which events are wanted; pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from mesh.bus import CloudEvent, cloud_event

if TYPE_CHECKING:
    from mesh.buses.contract import Event

__all__ = ["CloudEvent", "Wanted", "cloud_event"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events are wanted; `where` are (member, text) pairs that must all hold.

    A member is looked for among the event's attributes, then in its data (`lines.0.sku`).
    """

    type_glob: str | None = None
    stream: str | None = None
    since_ms: int | None = None
    where: tuple[tuple[str, str], ...] = ()

    @property
    def filters(self) -> bool:
        """Whether there are events that are not wanted."""
        return self != Wanted()

    def takes(self, event: Event) -> bool:
        """Whether this event is one of them."""
        if self.stream is not None and event.stream != self.stream:
            return False
        if self.since_ms is not None and event.ts_ms < self.since_ms:
            return False
        if self.type_glob is not None and not fnmatchcase(event.type, self.type_glob):
            return False
        if not self.where:
            return True
        said = cloud_event(event)
        return all(_text(_member(said, path)) == text for path, text in self.where)


def _member(said: CloudEvent, path: str) -> object:
    if path in said and path != "data":
        return said[path]
    found = said.get("data")
    for step in path.removeprefix("data.").split("."):
        if isinstance(found, list) and step.isdecimal() and int(step) < len(found):
            found = found[int(step)]
        elif isinstance(found, dict):
            found = found.get(step)
        else:
            return None
    return found


def _text(value: object) -> str:
    """As it would be typed on a command line."""
    return value if isinstance(value, str) else json.dumps(value)
