"""Which groups are committed without a sync, and by when that is made up for.

SQLite takes the setting before BEGIN, so it is decided before the functions have run: where one asks to
be durable after all, its group is undone and runs again as a durable one. The next durable commit syncs
whatever went before it into the -wal; where none comes an empty one does.
"""

from __future__ import annotations

from mesh import clock

DELAY_S = 0.2
"""For how long a commit may stay unsynced, and a sync more: PostgreSQL's `wal_writer_delay`."""

WARY_GROUPS = 16
"""After a function that asked to be durable no group is delayed for so many: those that do it seldom
come alone, and each would have its group run twice."""


class Delay:
    """What of one database is committed and may not be on the disk yet."""

    def __init__(self) -> None:
        self._since_s: float | None = None
        self._wary = 0

    @property
    def allowed(self) -> bool:
        """Whether one more group may be committed without a sync."""
        return not self._wary and self.wait_s() != 0.0

    def wait_s(self) -> float | None:
        """After how long to sync; None when everything is."""
        if self._since_s is None:
            return None
        return max(0.0, self._since_s + DELAY_S - clock.monotonic_s())

    def beware(self) -> None:
        """A function asked to be durable after all."""
        self._wary = WARY_GROUPS

    def committed(self, *, synced: bool) -> None:
        """A group is committed, and all before it is synced or it is not itself."""
        self._wary = max(0, self._wary - 1)
        if synced:
            self._since_s = None
        elif self._since_s is None:
            self._since_s = clock.monotonic_s()

    def again(self) -> None:
        """A sync could not be: another in a while."""
        if self._since_s is not None:
            self._since_s = clock.monotonic_s()
