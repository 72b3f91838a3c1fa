"""How a program inside walls imports: from folders it may not list, into a cache of its own.

Bytecode beside the source is read where it is there; what has to be compiled is kept in the program's
own folder, since nobody may write what another one runs. Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import sys
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    ModuleSpec,
    SourceFileLoader,
    SourcelessFileLoader,
)
from importlib.util import spec_from_file_location
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed import ReadableBuffer


class Unlisted:
    """Finds modules in a folder by asking for the files that they would be."""

    def __init__(self, folder: str) -> None:
        """Look at nothing yet."""
        self._folder = folder

    def find_spec(self, name: str, _target: object = None) -> ModuleSpec | None:
        """As importlib's finder of a path entry does: package, then module, then namespace."""
        place = os.path.join(self._folder, name.rpartition(".")[2])  # noqa: PTH118  (a hot path)
        for suffix in (*EXTENSION_SUFFIXES, *SOURCE_SUFFIXES):
            package = os.path.join(place, f"__init__{suffix}")  # noqa: PTH118
            if os.path.isfile(package):  # noqa: PTH113
                return spec_from_file_location(name, package, submodule_search_locations=[place])
        for suffix in (*EXTENSION_SUFFIXES, *SOURCE_SUFFIXES):
            if os.path.isfile(place + suffix):  # noqa: PTH113
                return spec_from_file_location(name, place + suffix)
        if os.path.isdir(place):  # noqa: PTH112
            namespace = ModuleSpec(name, None, is_package=True)
            namespace.submodule_search_locations = [place]
            return namespace
        return None


class _Loader(SourceFileLoader):
    """Reads bytecode of its own, else that beside the source; writes its own alone."""

    own = ""

    def get_data(self, path: str) -> bytes:
        if self.own and path.endswith(tuple(BYTECODE_SUFFIXES)):
            with contextlib.suppress(OSError):
                return super().get_data(self.own + path)
        return super().get_data(path)

    def set_data(self, path: str, data: ReadableBuffer, *, _mode: int = 0o600) -> None:
        super().set_data(self.own + path, data, _mode=0o600)


def prepare() -> None:
    """Have what is imported from here on loaded in this way. Before there is an own cache, as usual."""
    sys.path_hooks[-1] = FileFinder.path_hook(
        (ExtensionFileLoader, EXTENSION_SUFFIXES),
        (_Loader, SOURCE_SUFFIXES),
        (SourcelessFileLoader, BYTECODE_SUFFIXES),
    )
    sys.path_importer_cache.clear()


def confine(unlisted: Iterable[str], bytecode: str) -> None:
    """The walls stand now: these folders cannot be listed, compiled code goes below `bytecode`."""
    _Loader.own = bytecode
    for folder in unlisted:
        sys.path_importer_cache[folder] = Unlisted(folder)
