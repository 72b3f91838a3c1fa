"""Backups as they lie in `data/backups`: one folder each, its files and what they are.

A backup is whole or it is not there: it is made beside its place and renamed into it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from mesh import __version__, bus, clock, codec, snapshot
from mesh.bus import Epoch, Link
from mesh.configs.complaints import suggestion
from mesh.configs.locate import NAME
from mesh.errors import Broken, Conflict, InvalidInput, NotFound, WrongUsage
from mesh.framework import history

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FOLDER = "backups"
MANIFEST = "manifest.json"
DRAFT = ".part"
SCHEMA = "mesh.backup/1"
HOSTED = "hosted"
"""The bus's file of programs without a database, as a part of a backup."""


class Stream(Struct, frozen=True):
    """A stream that a file tells: its epochs, and how far it goes."""

    name: str
    epochs: tuple[Epoch, ...]
    head: Link


class Part(Struct, frozen=True):
    """One database of a backup."""

    name: str
    file: str
    bytes: int
    sha256: str
    streams: tuple[Stream, ...]
    cursors: tuple[history.Standing, ...] = ()


class Manifest(Struct, frozen=True):
    """What a backup is."""

    schema: str
    name: str
    project: str
    taken_at: str
    mesh: str
    parts: tuple[Part, ...]
    left_out: dict[str, str]


def folder_of(data: Path, name: str) -> Path:
    """Where a backup of that name lies. Raises: WrongUsage when it cannot be a name."""
    if not NAME.fullmatch(name):
        raise WrongUsage(
            f"`{name}` cannot be the name of a backup", hint="small letters, digits and dashes"
        )
    return data / FOLDER / name


def names(data: Path) -> list[str]:
    """Every backup there is, the oldest first."""
    found = [path.parent for path in (data / FOLDER).glob(f"*/{MANIFEST}")]
    whole = [path for path in found if not path.name.startswith(".")]
    return [path.name for path in sorted(whole, key=lambda path: path.stat().st_mtime_ns)]


def read(data: Path, name: str) -> Manifest:
    """A backup's manifest. Raises: WrongUsage, NotFound (with a suggestion), Broken."""
    file = folder_of(data, name) / MANIFEST
    try:
        return codec.replace(codec.decode(file.read_bytes(), Manifest), name=name)
    except FileNotFoundError:
        known = names(data)
        raise NotFound(
            f"there is no backup `{name}`{suggestion(name, known)}",
            code="unknown-backup",
            hint=f"there are: {', '.join(known)}" if known else "mesh backup NAME makes one",
        ) from None
    except (InvalidInput, OSError) as error:
        raise Broken(f"{file} cannot be read: {error}") from None


@contextmanager
def made(data: Path, name: str) -> Iterator[Path]:
    """A folder to fill, which gets its name when all went well and is gone otherwise.

    Only one is made at a time, so those of makers that were killed are gone too.

    Raises: Conflict when there is a backup of that name.
    """
    folder = folder_of(data, name)
    if folder.exists():
        raise Conflict(
            f"there is a backup `{name}` already", code="backup-exists", hint="choose another name"
        )
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = folder.with_name(f".{name}{DRAFT}")
    for left in folder.parent.glob(f".*{DRAFT}"):
        shutil.rmtree(left, ignore_errors=True)
    draft.mkdir(mode=0o700)
    try:
        yield draft
        snapshot.sync_directory(draft)
        draft.rename(folder)
        snapshot.sync_directory(folder.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def described(folder: Path, name: str, bus_url: str) -> Part:
    """A file of a backup, looked through: its digest, its streams, its cursors."""
    file = folder / f"{name}.db"
    size = file.stat().st_size
    if name == HOSTED:
        states = bus.guests(bus_url, file)
        streams = tuple(Stream(each, one.epochs, one.head) for each, one in states.items())
        return Part(name, file.name, size, digest(file), streams)
    found = history.read(file)
    told = Stream(name, found.epochs, found.head)
    return Part(name, file.name, size, digest(file), (told,), found.cursors)


def write(folder: Path, manifest: Manifest) -> None:
    """Put the manifest beside the files, durably."""
    path = folder / MANIFEST
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(codec.encode(manifest))
        file.flush()
        os.fsync(file.fileno())


def manifest(
    name: str, project: str, taken_ms: int, parts: Sequence[Part], left_out: dict[str, str]
) -> Manifest:
    """What to write about it."""
    return Manifest(
        *(SCHEMA, name, project, clock.iso(taken_ms), __version__, tuple(parts), left_out)
    )


def check(data: Path, found: Manifest, wanted: Sequence[str]) -> None:
    """Be sure that these parts are what was backed up. Raises: Broken, DatabaseBroken."""
    for part in found.parts:
        if part.name not in wanted:
            continue
        file = folder_of(data, found.name) / Path(part.file).name
        if not file.is_file() or digest(file) != part.sha256:
            raise Broken(
                f"{file} is not what was backed up: it is gone, or other bytes",
                code="backup-damaged",
                hint="restore another backup: mesh backup lists them",
            )
        snapshot.check(file)


def digest(file: Path) -> str:
    """SHA-256 of a file, in hex."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
