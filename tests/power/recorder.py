"""Every write that SQLite makes in this process, in order, as its own file layer makes it.

SQLite reaches the disk through a table of functions (sqlite.org/vfs.html). The entries for
writing, cutting, syncing and deleting are replaced by ones that note what they were asked and then
do it, so nothing outside Python is needed, every connection of every thread is seen, and what runs
is what ships. It takes a Python whose `sqlite3` uses a shared library; `why_not` says if it has not.
"""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import sqlite3
import tempfile
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_WORDS_VFS = 22
_OPEN, _DELETE = 5, 6
"""Places of xOpen and xDelete among the eight-byte words of `sqlite3_vfs`."""

_WORDS_METHODS = 19
_WRITE, _TRUNCATE, _SYNC = 3, 4, 5
"""Likewise in `sqlite3_io_methods`, whose first word is its version."""


class Write(NamedTuple):
    path: str
    offset: int
    data: bytes


class Cut(NamedTuple):
    path: str
    length: int


class Sync(NamedTuple):
    path: str


class Delete(NamedTuple):
    path: str
    durable: bool


class Mark(NamedTuple):
    """Somebody was told at this moment that something is durable."""

    what: str
    number: int


Operation = Write | Cut | Sync | Delete | Mark

_OPEN_CALL = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p
)
"""The name stays a pointer: SQLite keeps more around it than the name."""
_DELETE_CALL = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int)
_WRITE_CALL = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
)
_TRUNCATE_CALL = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int64)
_SYNC_CALL = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)


def _library() -> ctypes.CDLL | None:
    """The very library that Python's `sqlite3` uses."""
    name = ctypes.util.find_library("sqlite3")
    if name is None:
        return None
    library = ctypes.CDLL(name)
    library.sqlite3_vfs_find.restype = ctypes.c_void_p
    library.sqlite3_vfs_find.argtypes = [ctypes.c_char_p]
    return library


def why_not() -> str:
    """Why nothing can be recorded here, or ""."""
    if ctypes.sizeof(ctypes.c_void_p) != 8:
        return "the layout is known for 64 bits only"
    if _library() is None:
        return "there is no shared SQLite library"
    with tempfile.TemporaryDirectory() as name, recorded() as notes:
        connection = sqlite3.connect(f"{name}/probe.db")
        connection.execute("CREATE TABLE probe (x)")
        connection.close()
    return "" if notes else "this Python brings an SQLite of its own, which cannot be reached"


class _Methods:
    """The table of one kind of file, with our entries in it."""

    def __init__(self, shipped: int, paths: dict[int, str], notes: list[Operation]) -> None:
        self.table = (ctypes.c_void_p * _WORDS_METHODS).from_buffer_copy(
            (ctypes.c_void_p * _WORDS_METHODS).from_address(shipped)
        )
        write = _WRITE_CALL(self.table[_WRITE])
        truncate = _TRUNCATE_CALL(self.table[_TRUNCATE])
        sync = _SYNC_CALL(self.table[_SYNC])

        def on_write(file: int, data: int, count: int, offset: int) -> int:
            notes.append(Write(paths[file], offset, ctypes.string_at(data, count)))
            return write(file, data, count, offset)

        def on_truncate(file: int, length: int) -> int:
            notes.append(Cut(paths[file], length))
            return truncate(file, length)

        def on_sync(file: int, flags: int) -> int:
            code = sync(file, flags)
            notes.append(Sync(paths[file]))
            return code

        self._kept = (_WRITE_CALL(on_write), _TRUNCATE_CALL(on_truncate), _SYNC_CALL(on_sync))
        for place, entry in zip((_WRITE, _TRUNCATE, _SYNC), self._kept, strict=True):
            self.table[place] = ctypes.cast(entry, ctypes.c_void_p).value


@contextlib.contextmanager
def recorded() -> Iterator[list[Operation]]:
    """Note what connections opened inside do. They must all be closed before the end."""
    library = _library()
    assert library is not None, why_not()
    notes: list[Operation] = []
    paths: dict[int, str] = {}
    ours: dict[int, _Methods] = {}
    words = (ctypes.c_void_p * _WORDS_VFS).from_address(library.sqlite3_vfs_find(None))
    shipped = words[_OPEN], words[_DELETE]
    opens, deletes = _OPEN_CALL(shipped[0]), _DELETE_CALL(shipped[1])

    def on_open(vfs: int, name: int | None, file: int, flags: int, out: int | None) -> int:
        code = opens(vfs, name, file, flags, out)
        methods = ctypes.c_void_p.from_address(file)
        if code == 0 and name is not None and methods.value:
            paths[file] = ctypes.string_at(name).decode()
            kind = methods.value
            if kind not in ours:
                ours[kind] = _Methods(kind, paths, notes)
            methods.value = ctypes.addressof(ours[kind].table)
        return code

    def on_delete(vfs: int, name: bytes, sync_directory: int) -> int:
        code = deletes(vfs, name, sync_directory)
        if code == 0:
            notes.append(Delete(name.decode(), bool(sync_directory)))
        return code

    entries = _OPEN_CALL(on_open), _DELETE_CALL(on_delete)
    words[_OPEN] = ctypes.cast(entries[0], ctypes.c_void_p).value
    words[_DELETE] = ctypes.cast(entries[1], ctypes.c_void_p).value
    try:
        yield notes
    finally:
        words[_OPEN], words[_DELETE] = shipped
