"""Numbered schema files: which there are. How they are applied is each database's own matter."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from msgspec import Struct

from mesh.errors import SchemaMismatch

if TYPE_CHECKING:
    from pathlib import Path

_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")


class Migration(Struct, frozen=True):
    """One schema file.

    `owner` keeps the framework's numbering apart from the service's own.
    """

    owner: str
    number: int
    sql: str

    @property
    def digest(self) -> str:
        """SHA-256 of the text, hex: an applied file must never change."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def found_in(folder: Path, owner: str) -> list[Migration]:
    """The files `NNNN_name.sql` in `folder`, in order, numbered from 1; none if it is absent.

    Raises: SchemaMismatch when a number is missing or appears twice.
    """
    if not folder.is_dir():
        return []
    found = [
        Migration(owner, int(match.group(1)), item.read_text("utf-8"))
        for item in sorted(folder.iterdir(), key=lambda entry: entry.name)
        if (match := _NAME.fullmatch(item.name))
    ]
    if [migration.number for migration in found] != list(range(1, len(found) + 1)):
        raise SchemaMismatch(f"{folder}: files must be numbered 0001, 0002, …")
    return found
