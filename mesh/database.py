"""REMEMBER: the database's face. A service's own database is opened here and nowhere else."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from mesh import databases
from mesh.databases.contract import Database, Reader, Transaction, Value
from mesh.databases.migrations import Migration, found_in
from mesh.errors import InvalidInput

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "Database",
    "Migration",
    "Reader",
    "Transaction",
    "Value",
    "connect",
    "found_in",
    "schemes",
]


def schemes() -> list[str]:
    """The URL schemes that have a folder here."""
    return sorted(
        module.name for module in pkgutil.iter_modules(databases.__path__) if module.ispkg
    )


async def connect(url: str, directory: Path, name: str) -> Database:
    """Open the database that `url` names.

    Args:
        url: `sqlite://` is `directory/name.db`; its scheme chooses the backend.
        directory: the service's own, made if absent, 0700.

    Raises: InvalidInput (unknown scheme), DatabaseBroken, AlreadyRunning (another holds it).
    """
    scheme = urlsplit(url).scheme
    if scheme not in schemes():
        raise InvalidInput(
            f"no database backend for {url!r}",
            hint=f"use one of: {', '.join(f'{name}://' for name in schemes())}",
        )
    backend = importlib.import_module(f"mesh.databases.{scheme}")
    return cast("Database", await backend.connect(url, directory, name))
