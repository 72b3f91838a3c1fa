"""What a mesh in the foreground shows, printed where nobody waits for it.

A terminal that is held (Ctrl-S) or a pipe that nobody empties stops whoever prints. So a thread
prints: it follows the log files, and takes the supervisor's changes from a queue with a bound.
What it cannot keep up with is left out and counted; the logs have it. Never holds the supervisor,
and at the end no longer than END_S.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from typing import TYPE_CHECKING

from mesh.commands import lines, output
from mesh.commands.logs import printer
from mesh.commands.stopped import report
from mesh.orchestrator import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from mesh.commands.pictured import Picture

CHANGES_MAX = 1024
"""Changes that wait to be shown: a mesh of twenty makes some hundred between start and stop."""

BACKLOG_BYTES_MAX = 1024 * 1024
"""Of one log; a screen that is further behind goes on further ahead. Nobody reads that much."""

END_S = 4.0
"""How long the end of the mesh waits for a screen; from the half on, log lines are left out."""


class Screen:
    """Shows log lines, changes and how it ended, in that order where they come together.

    Args:
        paths: the logs to follow, by program.
        change: shows a change; called in the thread.
        held: whoever has the terminal first; what changes meanwhile is not shown here.

    Attributes:
        pictured: the terminal was held until the end.
    """

    def __init__(
        self,
        names: Sequence[str],
        paths: Mapping[str, Path],
        change: Callable[[Mapping[str, object]], None],
        held: Picture | None = None,
    ) -> None:
        """Nothing is shown yet."""
        self._picture = self._held = held
        self.pictured = False
        self._paths = paths
        self._show = printer(names, as_json=False, timestamps=False)
        self._change = change
        self._changes: queue.Queue[Mapping[str, object]] = queue.Queue(CHANGES_MAX)
        self._unseen = 0
        self._thread: threading.Thread | None = None
        self._stopped: Sequence[Mapping[str, object]] = ()
        self._ended = self._hurry = False

    def changed(self, said: Mapping[str, object]) -> None:
        """Have a change shown, and with the first everything that is logged from then on.

        Neither waits nor prints.
        """
        if self._thread is None:
            self._begin(None if self._held is not None else logs.Follower(self._paths))
        if self._held is not None:
            return
        try:
            self._changes.put_nowait(said)
        except queue.Full:
            self._unseen += 1

    def _begin(self, follower: logs.Follower | None) -> threading.Thread:
        self._thread = threading.Thread(target=self._work, args=(follower,), daemon=True)
        self._thread.start()
        return self._thread

    def end(self, stopped: Sequence[Mapping[str, object]]) -> bool:
        """Have the rest shown, then how each program ended; waits for it, END_S at most.

        Returns: whether it was. If not, the thread is held and has stdout's lock.
        """
        if self._picture is not None:
            self._picture.let_go()
        self.pictured = self._held is not None
        thread = self._thread or (self._begin(None) if self.pictured else None)
        if thread is None:
            return True
        self._stopped, self._ended = stopped, True
        with contextlib.suppress(queue.Full):
            self._changes.put_nowait({})  # so that it looks at once
        with contextlib.suppress(KeyboardInterrupt):
            thread.join(END_S / 2)
            self._hurry = True
            if (held := self._held) is not None:
                held.kill()
            thread.join(END_S / 2)
        return not thread.is_alive()

    def _work(self, follower: logs.Follower | None) -> None:
        if self._held is not None:
            self._held.wait()
            self._held = None
        follower = follower or logs.Follower(self._paths)
        ended = False
        while not ended or (follower.behind and not self._hurry):
            ended = self._ended
            said = self._next(0.0 if ended or follower.behind else logs.FOLLOW_S)
            self._tell_lines(follower)
            while said is not None:
                with _unread():
                    if said:
                        self._change(said)
                said = self._next(0.0)
        with _unread():
            if self._unseen:
                output.note(f"{self._unseen} changes were not shown; mesh logs mesh")
            report(self._stopped)

    def _next(self, wait_s: float) -> Mapping[str, object] | None:
        """The next change, if one comes by then."""
        with contextlib.suppress(queue.Empty):
            return self._changes.get(timeout=wait_s) if wait_s else self._changes.get_nowait()
        return None

    def _tell_lines(self, follower: logs.Follower) -> None:
        if follower.behind:
            follower.skip(0 if self._hurry else BACKLOG_BYTES_MAX)
        for line in follower.read():
            with _unread():
                self._show(lines.parse(*line))
        for name, count in follower.missed().items():
            with _unread():
                output.note(f"{name}: {count} bytes were not shown; mesh logs {name}")


def _unread() -> contextlib.suppress:
    """Nobody has to read it: a mesh stops when told to, not for a closed pipe or a full disk."""
    return contextlib.suppress(OSError)
