"""`mesh version`."""

from __future__ import annotations

import platform
import sqlite3

from mesh import __version__
from mesh.commands import output
from mesh.commands.verb import json_option, verb


@verb("mesh version", "mesh version --json")
@json_option
def command(*, as_json: bool) -> None:
    """Print the versions of mesh and what it stands on."""
    versions = {
        "mesh": __version__,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }
    if as_json:
        output.json_line({"schema": "mesh.version/1", **versions})
        return
    for name, version in versions.items():
        output.out(f"{name:<8}{version}")
