"""Those who watch a mesh: each is told every transition, and one who is too slow is let go of."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mesh.orchestrator.contract import Transition

    Queue = asyncio.Queue[Transition | None]

QUEUE_MAX = 1024
"""Transitions a watcher may be behind."""


class Watchers:
    """Everybody who watches at the moment. What each is told ends with None."""

    def __init__(self) -> None:
        """Nobody yet."""
        self._queues: set[Queue] = set()

    def join(self) -> Queue:
        """Every transition from now on."""
        queue: Queue = asyncio.Queue(QUEUE_MAX)
        self._queues.add(queue)
        return queue

    def leave(self, queue: Queue) -> None:
        """Tell this one nothing more. Idempotent."""
        self._queues.discard(queue)

    def tell(self, transition: Transition) -> None:
        """Tell everybody; never waits."""
        for queue in [*self._queues]:
            try:
                queue.put_nowait(transition)
            except asyncio.QueueFull:
                self.leave(queue)
                _last(queue)

    def close(self) -> None:
        """Let everybody know that nothing more will come."""
        for queue in self._queues:
            _last(queue)


def _last(queue: Queue) -> None:
    """End a watcher's stream, at the cost of what it has not read if it is full."""
    if queue.full():
        queue.get_nowait()
    queue.put_nowait(None)
