"""Keeps logs within bounds while programs write them, and notes when each had grown how far.

A thread of the supervisor that looks at every file's length while any is written. A file that is full is copied to a
piece and cut to nothing; the oldest pieces go. What is written between the last read of the copy
and the cut, two system calls in a row, is lost. Nothing here raises or holds up anybody: on a full
disk old pieces go first, then what cannot be copied is cut away. Standard library only.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from typing import TYPE_CHECKING

from mesh import clock
from mesh.orchestrator import notes
from mesh.orchestrator.pieces import Log
from mesh.orchestrator.writes import Writes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

FILE_BYTES_MAX = 8 * 1024 * 1024
"""A log of this length is cut at the next look. An editor opens it, and it is copied in 20 ms."""

KEPT_BYTES_MAX = 4 * FILE_BYTES_MAX
"""All pieces of one log together. With the file itself, which a fast program fills further until
it is looked at and copied, a log takes 64 MiB of disk at most: at 100 MB/s that leaves 0.2 s."""

LOOK_S = 0.1
"""Between two looks at logs that grow: how exact the noted times are."""

QUIET_LOOK_S = 5.0
"""The same while the kernel says that nothing is written, should it ever be wrong."""

HURRY_S = 0.01
"""The same while a log grows by more than HURRY_BYTES between two looks."""

HURRY_BYTES = 256 * 1024

RETRY_S = 1.0
"""After a log could be neither copied nor cut, before the next attempt."""

COPY_BYTES = 1024 * 1024
"""Copied at a time: the memory this takes."""

CLOSE_S = 2.0
"""How long the end of the mesh waits for a copy on a slow disk. What is left of it is completed
or removed at the next start."""


class _Kept:
    """One log, as it was at the last look. Nobody else cuts it, so its `base` is known."""

    def __init__(self, path: Path) -> None:
        self.log = Log(path, settle_s=0)
        self.base = 0
        self.length = 0
        self.noted = 0
        self.noted_s = 0.0
        self.not_before_s = 0.0


class Keeper:
    """Looks after some logs.

    Args:
        tell: told (event, facts) of what was lost; called in the thread.

    Attributes:
        lost_bytes: cut away without a copy, as far as that is known.
    """

    def __init__(
        self,
        paths: Iterable[Path],
        *,
        tell: Callable[..., None] = lambda *_, **__: None,
        file_bytes_max: int = FILE_BYTES_MAX,
        kept_bytes_max: int = KEPT_BYTES_MAX,
    ) -> None:
        """Complete or remove what a killed supervisor left half done. Only one may look at a log."""
        self.lost_bytes = 0
        self._tell = tell
        self._file_bytes_max = file_bytes_max
        self._kept_bytes_max = kept_bytes_max
        self._logs = [_Kept(path) for path in paths]
        for kept in self._logs:
            with contextlib.suppress(OSError):
                self._recover(kept)

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Look at the logs in a thread of their own, and once more at the end."""
        writes = Writes({kept.log.path.parent for kept in self._logs})
        thread = threading.Thread(target=self._work, args=[writes], name="log keeper", daemon=True)
        try:
            thread.start()
            yield
        finally:
            writes.end()
            thread.join(CLOSE_S)

    def _work(self, writes: Writes) -> None:
        while writes.wait(QUIET_LOOK_S) and writes.rest(HURRY_S if self.look() else LOOK_S):
            pass
        self.look()
        writes.close()

    def look(self) -> bool:
        """One look at every log; says whether one grows so fast that the next should come soon."""
        hurry = False
        for kept in self._logs:
            length = kept.log.length()
            if length == kept.length and kept.base + length == kept.noted:
                continue
            grown, kept.length = length - kept.length, length
            hurry |= grown > HURRY_BYTES
            self._note(kept)
            if length >= self._file_bytes_max and clock.monotonic_s() >= kept.not_before_s:
                self._cut(kept)
        return hurry

    def _note(self, kept: _Kept) -> None:
        """Note how far it has grown, not more often than times are to be exact."""
        now_s, end = clock.monotonic_s(), kept.base + kept.length
        if now_s - kept.noted_s < LOOK_S / 2:
            return
        with contextlib.suppress(OSError):
            if end < kept.noted:  # somebody emptied it by hand
                notes.check(kept.log.path, end)
            notes.add(kept.log.path, clock.now_ms(), end)
        kept.noted, kept.noted_s = end, now_s

    def _recover(self, kept: _Kept) -> None:
        log = kept.log
        log.copy.unlink(missing_ok=True)
        seen = log.shape()
        if seen.cutting is not None:
            if seen.settled(log.length()).pieces == seen.pieces:
                seen.cutting.path.unlink()
            else:
                seen.cutting.path.replace(log.piece(seen.cutting.start))
        kept.base = log.shape().base
        kept.length = log.length()
        notes.check(log.path, kept.base + kept.length)

    # cutting

    def _cut(self, kept: _Kept) -> None:
        """Copy a full file and cut it. On a full disk older pieces make room, then it is only cut."""
        while True:
            try:
                lost, why = self._copied_and_cut(kept), "written faster than it could be copied"
            except OSError as error:
                full = error.errno in {errno.ENOSPC, errno.EDQUOT}
                if full and self._drop_oldest(kept.log):
                    continue
                kept.not_before_s = clock.monotonic_s() + RETRY_S
                if kept.length < 2 * self._file_bytes_max:
                    return
                lost, why = self._only_cut(kept), os.strerror(error.errno or errno.EIO)
            break
        kept.length = 0  # what it has grown to since is news
        self._trim(kept, coming=0)
        with contextlib.suppress(OSError):
            notes.trim(kept.log.path, kept.log.first())
        if lost:
            self.lost_bytes += lost
            self._tell("log bytes lost", log=kept.log.path.name, lost_bytes=lost, cause=why)

    def _copied_and_cut(self, kept: _Kept) -> int:
        """Returns how many bytes were left out. Raises OSError, with nothing cut and no copy left.

        A reader that comes between any two steps finds every byte once, or waits.
        """
        log = kept.log
        with contextlib.ExitStack() as opened:
            live = _opened(opened, log.path, os.O_RDWR)
            length = os.fstat(live).st_size
            skipped = max(0, length - 2 * self._file_bytes_max)
            start = kept.base + skipped
            self._trim(kept, coming=length - skipped)
            undo = opened.enter_context(contextlib.ExitStack())
            undo.callback(log.copy.unlink, missing_ok=True)
            undo.callback(log.cutting(start).unlink, missing_ok=True)
            piece = _opened(opened, log.copy, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            copied = _copy(live, piece, skipped, length)
            log.copy.rename(log.cutting(start))
            until = copied + self._file_bytes_max
            copied = _copy(live, piece, copied, until)
            length = copied if copied < until else os.fstat(live).st_size
            os.ftruncate(live, 0)
            undo.pop_all()
            end = kept.base + copied
            if length > copied:  # a program faster than this copy is not raced to the end
                with contextlib.suppress(OSError):
                    _opened(opened, log.piece(kept.base + length), os.O_WRONLY | os.O_CREAT)
                    end = kept.base + length
            kept.base = end
            log.cutting(start).rename(log.piece(start))
            return skipped + length - copied

    def _only_cut(self, kept: _Kept) -> int:
        """Leave an empty piece that says where the file begins. Returns how many bytes are lost."""
        log = kept.log
        with contextlib.suppress(OSError), contextlib.ExitStack() as opened:
            live = _opened(opened, log.path, os.O_RDWR)
            length = os.fstat(live).st_size
            start = kept.base + length
            _opened(opened, log.cutting(start), os.O_WRONLY | os.O_CREAT)
            os.ftruncate(live, 0)
            kept.base = start
            log.cutting(start).rename(log.piece(start))
            return length
        return 0

    def _trim(self, kept: _Kept, *, coming: int) -> None:
        """Remove the oldest pieces until so many more bytes have room; the newest stays."""
        lengths = [piece.length for piece in kept.log.shape().pieces]
        while sum(lengths) + coming > self._kept_bytes_max and self._drop_oldest(kept.log):
            lengths.pop(0)

    def _drop_oldest(self, log: Log) -> bool:
        """Remove a piece, unless it is the newest, which says where the file begins."""
        oldest, *others = log.shape().pieces or (None,)
        if oldest is None or not others:
            return False
        with contextlib.suppress(OSError):
            oldest.path.unlink()
            return True
        return False


def _opened(stack: contextlib.ExitStack, path: Path, flags: int) -> int:
    descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    stack.callback(os.close, descriptor)
    return descriptor


def _copy(source: int, target: int, position: int, until: int) -> int:
    """Append what lies between two positions, less at the end. Returns the position reached."""
    while position < until:
        chunk = os.pread(source, min(COPY_BYTES, until - position), position)
        if not chunk:
            break
        if os.write(target, chunk) < len(chunk):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        position += len(chunk)
    return position
