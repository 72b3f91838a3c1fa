"""Whether whoever asks for a change is alone, and the disk quick: then it is committed on the event loop.

To have the COMMIT made by a thread and to hear of it takes two wake-ups, half as long again as a quick
disk takes. Among others that pays, since the loop works on meanwhile; for one who is alone it is lost.
What comes next nobody knows: it is judged by the commits before.
"""

from __future__ import annotations

QUICK_S = 0.001
"""The longest commit for which an event loop may wait."""

UNKNOWN_COMMITS = 64
"""So many quick ones are the thread's before a disk is known to be."""

WARY_COMMITS = 4
"""So many are the thread's after somebody was not alone, and for each QUICK_S that one took longer: a
disk that stalled for a second is not waited for again for thousands."""


class Solo:
    """How many more commits are the thread's, by how the last ones went."""

    def __init__(self) -> None:
        """Nothing is known of the disk yet."""
        self._wary = UNKNOWN_COMMITS

    @property
    def allowed(self) -> bool:
        """Whether the next commit may be the loop's. Then nobody waits but the one it is for."""
        return not self._wary

    def beware(self) -> None:
        """Somebody was not alone."""
        self._wary = max(self._wary, WARY_COMMITS)

    def committed(self, took_s: float) -> None:
        """A durable commit has ended, `took_s` after its functions had: until the loop knew."""
        if took_s > QUICK_S:
            self._wary = max(self._wary, int(took_s / QUICK_S) * WARY_COMMITS)
        elif self._wary:
            self._wary -= 1
