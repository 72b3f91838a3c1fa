"""REMEMBER: the database's face. A service's own database is opened here and nowhere else."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, TypeVar, cast
from urllib.parse import urlsplit

from mesh import databases
from mesh.databases.contract import Copies, Cut, Database, Reader, Transaction, Value
from mesh.databases.migrations import Migration, found_in
from mesh.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path
    from types import ModuleType

T = TypeVar("T")

__all__ = [
    "Copies",
    "Cut",
    "Database",
    "Migration",
    "Reader",
    "Transaction",
    "Value",
    "connect",
    "file_of",
    "found_in",
    "opened",
    "rows",
    "schemes",
]


def schemes() -> list[str]:
    """The URL schemes that have a folder here."""
    return sorted(
        module.name for module in pkgutil.iter_modules(databases.__path__) if module.ispkg
    )


def file_of(url: str, directory: Path, name: str) -> Path | None:
    """The file that holds this database; None for one on a server. Raises: InvalidInput."""
    found = _backend(url).file_of(directory, name)
    return cast("Path | None", found)


def rows(file: Path, shape: type[T], sql: str) -> list[T]:
    """Rows of a database file that nobody has open, a copy above all.

    Raises: DatabaseBroken, SchemaMismatch (it has no such table).
    """
    return cast("list[T]", _backend("sqlite://").rows(file, shape, sql))


def opened(file: Path, beside: Mapping[str, Path]) -> AbstractContextManager[Copies]:
    """A copy to be read, with others beside it under their names.

    Raises: DatabaseBroken; Broken (more than can be read together).
    """
    return cast("AbstractContextManager[Copies]", _backend("sqlite://").opened(file, beside))


async def connect(url: str, directory: Path, name: str, *, patience: int = 1) -> Database:
    """Open the database that `url` names.

    Args:
        url: `sqlite://` is `directory/name.db`; its scheme chooses the backend.
        directory: the service's own, made if absent, 0700.
        patience: how many times its usual time a transaction waits for a disk that stalls.

    Raises: InvalidInput (unknown scheme), DatabaseBroken, AlreadyRunning (another holds it).
    """
    return cast("Database", await _backend(url).connect(url, directory, name, patience))


def _backend(url: str) -> ModuleType:
    scheme = urlsplit(url).scheme
    if scheme not in schemes():
        raise InvalidInput(
            f"no database backend for {url!r}",
            hint=f"use one of: {', '.join(f'{name}://' for name in schemes())}",
        )
    return importlib.import_module(f"mesh.databases.{scheme}")
