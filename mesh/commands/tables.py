"""The tables of the configured services, imported here as each service would itself.

What a module does while it is imported is its own: what it prints goes to stderr, and how it fails
is told like any other error.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from mesh.configs import environment
from mesh.errors import InvalidInput, MeshError
from mesh.framework import tables as framework
from mesh.framework.agreement import Shop
from mesh.framework.service import check

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mesh.commands.project import Project
    from mesh.config import Service as Configured
    from mesh.framework import Service

FRAMES_MAX = 3
"""Lines of a failed import that are shown: the last ones, where it failed."""


def table(project: Project, name: str) -> Service:
    """The table of one service with a `module`.

    Raises: InvalidInput (the module cannot be imported, or has no table); Broken (the table is
        wrong).
    """
    configured = project.config.services[name]
    assert configured.module is not None
    with _as_it_would_be(Path(project.config.root), configured):
        try:
            found, _ = framework.find_service(configured.module, name)
        except MeshError:
            raise
        except (Exception, SystemExit) as error:  # anything at all may be in a module
            frames = traceback.extract_tb(error.__traceback__)[-FRAMES_MAX:]
            raise InvalidInput(
                f"module {configured.module!r} cannot be imported: {type(error).__name__}: {error}",
                evidence=tuple(f"{each.filename}:{each.lineno}: {each.line}" for each in frames),
            ) from error
    check(found)
    return found


def shop(project: Project) -> Shop:
    """Every service that has a table, and whom each of all may ask. Raises: as `table`."""
    services = project.config.services
    return Shop(
        {name: table(project, name) for name, service in services.items() if service.module},
        {name: frozenset(service.calls) for name, service in services.items()},
    )


@contextlib.contextmanager
def _as_it_would_be(root: Path, configured: Configured) -> Iterator[None]:
    """Its folder, its path of modules and its variables, for as long as this takes."""
    folder = root / configured.working_dir
    said: dict[str, str] = {}
    for file in configured.env_file:
        said |= environment.read(root / file)[0]
    before = dict(os.environ)
    os.environ.update(said | configured.environment)
    sys.path.insert(0, str(folder.resolve()))
    try:
        with contextlib.chdir(folder), contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        sys.path.pop(0)
        os.environ.clear()
        os.environ.update(before)
