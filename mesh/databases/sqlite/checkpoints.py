"""When the -wal is synced on its own, and when copied back into the file: by the writer, and best while nobody waits.

Commits into a -wal that is written over from its start take about half as long as into one
that grows, since a growing file makes the file system write its own log too. So it is kept at
WAL_BYTES: it is copied back when its room is used up, and the next commit then starts at the
beginning again. When that is, the round before has told: so many commits filled it so far. Where commits
have become larger since, it grows, which is seen by its length; SQLite cuts it to its length again
(`journal_size_limit`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh import clock
from mesh.databases.sqlite.connections import FULL, WAL_BYTES
from mesh.databases.sqlite.files import size_of

if TYPE_CHECKING:
    from pathlib import Path

    from mesh.databases.sqlite.statements import Statements

LOOK_COMMITS = 32
"""Commits between two looks at the length. A look at each costs 70 µs a commit on Linux 6.13 and
later: `stat` makes the next write note its time anew (multigrain timestamps)."""

FRAME_BYTES = 24 + 4096
"""Of one page in the -wal (SQLite's file format, 4.1)."""

ROOM_SHARE = 0.9
"""Of WAL_BYTES is used: no commit is quite as large as the last."""

IDLE_COMMITS = 256
"""Commits after which an idle slot is used, so that those who come later find the room empty."""

IDLE_S = 0.01
"""A slot is idle when nothing has come for this long: a few times what a checkpoint takes."""

RETRY_S = 0.5
"""A checkpoint that a reader or a full disk hindered is tried again after this."""

TRUNCATE_BYTES = 64 * 1024 * 1024
"""A -wal that a reader has let grow beyond this is cut at once instead of by the next commit."""


class Checkpoints:
    """Decides and runs them. For whoever has the writer's connection; `sync` and `run` for its thread alone."""

    def __init__(self, statements: Statements, wal: Path) -> None:
        self._statements = statements
        self._wal = wal
        self._commits = 0
        self._full_at = 0
        """After so many commits its room is used up, if they are like those before; 0: not known."""
        self._long = size_of(wal) > WAL_BYTES
        """Known to have outgrown its room since the last complete checkpoint."""
        self._scrub = False
        """Whether the -wal still has to be cut for what has been deleted."""
        self._not_before_s = 0.0
        self.restarts = True
        """The next commit may begin the -wal anew, and then syncs its header whatever is set."""

    def scrub(self) -> None:
        """Cut the -wal as soon as no reader needs it."""
        self._scrub = True

    def overdue(self) -> bool:
        """Count one commit; whether a checkpoint must be now, although work may wait."""
        self.restarts = False
        self._commits += 1
        if 0 < self._full_at <= self._commits:
            self._long = True
        elif self._commits % LOOK_COMMITS:
            return False
        else:
            self._long = size_of(self._wal) > WAL_BYTES
        return (self._long or self._scrub) and clock.monotonic_s() >= self._not_before_s

    def idle_wait_s(self) -> float | None:
        """After how much quiet to run one; None when there is nothing worth it."""
        if self._commits < IDLE_COMMITS and not self._long and not self._scrub:
            return None
        return max(IDLE_S, self._not_before_s - clock.monotonic_s())

    def sync(self) -> None:
        """Commit an empty change durably, and with it whatever lies in the -wal.

        Raises: StorageFull, DatabaseBusy (another program holds the file), DatabaseBroken.
        """
        self._statements.set("synchronous", FULL)
        ask = self._statements.ask
        ask(f"PRAGMA user_version = {ask('PRAGMA user_version')[0][0]!r}")

    def run(self) -> None:
        """Copy as much as readers allow.

        Raises: StorageFull (nothing is lost), DatabaseBroken.
        """
        self._not_before_s = clock.monotonic_s() + RETRY_S
        cut = self._scrub or size_of(self._wal) > TRUNCATE_BYTES
        mode = "TRUNCATE" if cut else "PASSIVE"
        # The writer's busy_timeout is 0, or TRUNCATE would wait for readers.
        hindered, frames, copied = self._statements.ask(f"PRAGMA wal_checkpoint({mode})")[0]
        if not hindered and frames == copied:
            if isinstance(frames, int) and frames > 0:
                room = ROOM_SHARE * WAL_BYTES / FRAME_BYTES
                self._full_at = int(room * self._commits / frames)
            self._commits = 0
            self.restarts = True
            self._long = False
            self._scrub = self._scrub and not cut
            self._not_before_s = 0.0
