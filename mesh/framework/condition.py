"""What keeps a service from being well though it answers: the reasons for *degraded*, in words.

An absent peer or bus is no reason: that passes by itself and is everybody's everyday.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh import notify
from mesh.errors import Unavailable

if TYPE_CHECKING:
    from mesh.bus import Bus
    from mesh.database import Database
    from mesh.framework.inbox import ServiceInbox

STATUS_CHARS_MAX = 600
"""Of all reasons together: a status is one line."""

FENCED = "fenced"


class Condition:
    """Looks at one service's wires and tells its supervisor. `look` is called by whoever beats."""

    def __init__(self, service: str, database: Database, wire: Bus, inbox: ServiceInbox) -> None:
        """Say nothing yet."""
        self._said, self._lag = "", -1
        self._service = service
        self._database = database
        self._bus = wire
        self._inbox = inbox

    def reasons(self) -> list[str]:
        """Why the service is degraded; none if it is well. Raises: Unavailable (not known now)."""
        found: list[str] = []
        if not self._database.writable:
            found.append("the database takes no writes: no space is left")
        state = self._bus.state
        if state.startswith(FENCED):
            way_out = f"to go on from this very file: mesh restore --adopt {self._service}"
            found.append(f"{state}; {way_out}")
        return found + self._inbox.complaints()

    def look(self) -> None:
        """Tell what has changed since the last look."""
        try:
            text = "; ".join(self.reasons())[:STATUS_CHARS_MAX]
        except Unavailable:
            text = self._said
        if text != self._said:
            notify.status(text)
            self._said = text
        lag = self._bus.lag
        if lag is not None and lag != self._lag:
            notify.lag(lag)
            self._lag = lag
