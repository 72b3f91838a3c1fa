"""Where the configuration and the data of a mesh lie. Nothing is read or made here.

Standard library only, so that `mesh ps` of a running mesh pays for no parser.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mesh.errors import ConfigInvalid, WrongUsage

if TYPE_CHECKING:
    from collections.abc import Mapping

FILE_NAMES = ("mesh.yaml", "configs/mesh.yaml")
NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
"""Names of projects and services: safe as a folder, a host and part of a variable's name."""

RESERVED = frozenset({"backups", "bus", "cli", "exercise", "logs", "mesh", "operator", "run"})
"""Names that programs, folders of `data/` and token subjects of our own already have."""

_PACKAGE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Location:
    """A configuration file and the folder that its relative paths and `data/` start from."""

    file: Path
    root: Path


def _root_of(file: Path) -> Path:
    return file.parent.parent if file.parent.name == "configs" else file.parent


def _named(text: str, cwd: Path) -> Location:
    file = Path(os.path.normpath(cwd / text))
    if not file.is_file():
        raise ConfigInvalid((f"{text}:1:1: there is no such file",))
    return Location(file, _root_of(file))


def _refuse_strangers(file: Path) -> None:
    """A file in a parent folder names programs to run, so it must be ours or root's."""
    owner = file.stat().st_uid
    if owner not in {os.geteuid(), 0}:
        raise WrongUsage(
            f"{file} belongs to another user (uid {owner})",
            code="foreign-configuration",
            hint=f"if you trust it: mesh -f {file} …",
        )


def built_in() -> Path:
    """The shop's file: inside an installed package, or in the checkout it is installed from."""
    packaged = _PACKAGE / "mesh.yaml"
    return packaged if packaged.is_file() else _PACKAGE.parent.parent / "configs" / "mesh.yaml"


def locate(file: str | None, *, env: Mapping[str, str], cwd: Path) -> Location:
    """The configuration to use: `file`, MESH_FILE, one found here or above, else the shop.

    Args:
        file: from the command line; relative to `cwd`, which is absolute.

    Raises: ConfigInvalid (no such file), WrongUsage (found in a parent, owned by a stranger).
    """
    named = file or env.get("MESH_FILE")
    if named:
        return _named(named, cwd)
    for folder in (cwd, *cwd.parents):
        for name in FILE_NAMES:
            candidate = folder / name
            if candidate.is_file():
                if folder != cwd:
                    _refuse_strangers(candidate)
                return Location(candidate, folder)
    return Location(built_in(), cwd)


def data_directory(
    root: Path, *, option: str | None, project: str | None, env: Mapping[str, str], cwd: Path
) -> Path:
    """The absolute directory that holds everything one mesh writes.

    Args:
        option: from `--data-dir`, before MESH_DATA_DIR, before `data` under `root`.
        project: from `-p`; a folder of that name inside, so that several lie side by side.

    Raises: WrongUsage (a project name that is no name).
    """
    chosen = option or env.get("MESH_DATA_DIR")
    data = cwd / chosen if chosen else root / "data"
    if project is not None:
        if not NAME.fullmatch(project) or project in RESERVED:
            raise WrongUsage(
                f"{project!r} cannot be a project's name",
                hint="use lower-case letters, digits and hyphens, for example: mesh -p shop2 up",
            )
        data /= project
    return Path(os.path.normpath(data))
