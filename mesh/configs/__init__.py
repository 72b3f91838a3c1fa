"""How a configuration is found, read and checked into the structs of `mesh.config`.

What it refuses to do: guess. An unknown key, an unset variable, a cycle or a name nobody has
is an error, and all errors are told at once, each with file, line and column. The built-in
shop's `mesh.yaml` lies here too in an installed package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mesh.config import Config


def load(file: str | None, *, env: Mapping[str, str], cwd: Path) -> Config:
    """Find, read and check the configuration.

    Args:
        file: as given on the command line; None to look for one (`mesh.configs.locate`).
        env: for `${NAME}`, MESH_FILE and variables passed on without a value.
        cwd: absolute.

    Raises: ConfigInvalid, with every complaint at once.
    """
    from mesh.configs import locate, reader  # noqa: PLC0415  (YAML is for those who read)

    return reader.read(locate.locate(file, env=env, cwd=cwd), env=env, cwd=cwd)
