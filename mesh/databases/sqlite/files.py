"""The files of one database before SQLite sees them: directory, lock, header, mark.

An empty file beside the trace of a database is never taken for a new one. The lock file carries
that trace: it says `made` once a schema has been committed. Only while the lock is held and no
connection is open are these files read here; afterwards they are only asked for their size.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING

from mesh.databases.sqlite.faults import broken, damaged
from mesh.errors import AlreadyRunning

if TYPE_CHECKING:
    from pathlib import Path

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
"""SQLite gives -wal and -shm the mode of the file itself."""

HEADER_BYTES = 100
"""The header's length, and the offsets below: sqlite.org/fileformat2.html section 1.3."""

_MAGIC = b"SQLite format 3\0"
_LARGEST_PAGE = 65536
"""Written as 1, since the field has two bytes."""

_MARK = b"made\n"


def size_of(path: Path) -> int:
    """Bytes in a file by `stat`; 0 when there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Place:
    """Where one database lies, and this process's hold on it."""

    def __init__(self, directory: Path, name: str) -> None:
        self.file = directory / f"{name}.db"
        self.wal = directory / f"{name}.db-wal"
        self.unclean = False
        """The last process did not close it: SQLite removes the -wal when the last one closes."""
        self.marked = False
        """A schema was committed here once."""
        self._directory = directory
        self._lock_file = directory / f"{name}.db-lock"
        self._lock: int | None = None

    def claim(self) -> None:
        """Take the lock, judge what is there, and make the file if there never was one.

        Raises: AlreadyRunning, DatabaseBroken. Nothing is held then.
        """
        try:
            self._claim()
        except OSError as error:
            self.release()
            raise broken(self.file, f"cannot be opened: {error.strerror or error}") from error
        except BaseException:
            self.release()
            raise

    def _claim(self) -> None:
        if not self._directory.exists():  # inside a sandbox it does, and the parent is out of reach
            self._directory.mkdir(DIRECTORY_MODE, parents=True)
            _sync(self._directory.parent)
        self._directory.chmod(DIRECTORY_MODE)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._lock = os.open(self._lock_file, flags, FILE_MODE)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(f"{self.file} is held by another process") from None
        self.marked = os.pread(self._lock, len(_MARK), 0) == _MARK
        self.unclean = self.wal.exists()
        if self.unclean:
            # Who died left it in the kernel's hands, and perhaps its name too; whoever reads it takes
            # it for durable. Where the file is locked or the disk full no commit could sync it.
            _sync(self.wal)
            _sync(self._directory)
        if size_of(self.file) == 0:
            self._begin_anew()
        else:
            self._check_header()
        for path in self._directory.glob(f"{self.file.name}*"):
            path.chmod(FILE_MODE)
        if not os.access(self.file, os.R_OK | os.W_OK):
            raise broken(self.file, "is not ours to write")

    def _begin_anew(self) -> None:
        if self.marked or size_of(self.wal):
            what = "is empty" if self.file.exists() else "is gone"
            raise broken(self.file, f"{what}, but a database was here")
        os.close(os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE))
        _sync(self._directory)

    def _check_header(self) -> None:
        descriptor = os.open(self.file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            header = os.pread(descriptor, HEADER_BYTES, 0)
        finally:
            os.close(descriptor)
        if len(header) < HEADER_BYTES or not header.startswith(_MAGIC):
            raise damaged(self.file, "is not a SQLite database")
        page_bytes = int.from_bytes(header[16:18])
        if page_bytes == 1:
            page_bytes = _LARGEST_PAGE
        expected = page_bytes * int.from_bytes(header[28:32])
        counted = header[24:28] == header[92:96]
        found = size_of(self.file)
        # With frames in the -wal a shorter file can be the honest remains of a checkpoint cut
        # short: the missing pages are in there.
        if counted and found < expected and not size_of(self.wal):
            raise damaged(self.file, f"is cut short: {found} of {expected} bytes")

    def mark(self) -> None:
        """Note durably that a schema is in there now."""
        if not self.marked and self._lock is not None:
            os.pwrite(self._lock, _MARK, 0)
            os.fsync(self._lock)
            _sync(self._directory)
            self.marked = True

    def release(self) -> None:
        """Let go of the lock; the lock file stays, as it carries the mark. Idempotent."""
        if self._lock is not None:
            with contextlib.suppress(OSError):
                os.close(self._lock)
            self._lock = None
