"""What a service needs of its environment: names, addresses, files. Nothing secret is in it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from mesh.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping

PORT_MAX = 65535

PATIENCE_MAX = 1000

LOOPBACK = ("127.0.0.1", "::1", "localhost")
"""Where a service that is not handed its listener may listen: nothing that leaves it is encrypted."""

LISTEN_FD = 3
"""The first descriptor handed over by LISTEN_FDS (sd_listen_fds(3))."""


class Settings(Struct, frozen=True):
    """What the environment says."""

    service: str
    project: str
    data_dir: Path
    database_url: str
    bus_url: str
    identity_file: Path
    seed_file: Path | None
    host: str
    port: int
    listen_fd: int | None
    peers: dict[str, str]
    last_exit: str = ""
    """How the process before this one ended, if nobody wished it to: `exit 9`, `signal 11`."""
    patience: int = 1
    """How many times its usual time a request, and whatever it asks, may take."""


def settings(environment: Mapping[str, str]) -> Settings:
    """Read what a service needs of its environment.

    Raises: InvalidInput, naming the variable.
    """

    def needed(name: str) -> str:
        value = environment.get(name)
        if not value:
            raise InvalidInput(
                f"{name} is not set", hint="`mesh up` sets it; `mesh up -d` runs the whole mesh"
            )
        return value

    port = environment.get("PORT", "0")
    if not (port.isascii() and port.isdecimal() and int(port) <= PORT_MAX):
        raise InvalidInput(f"PORT is {port!r}, not a number up to {PORT_MAX}")
    host = environment.get("HOST", LOOPBACK[0])
    if host not in LOOPBACK:
        raise InvalidInput(f"HOST is {host!r}, not one of {', '.join(LOOPBACK)}")
    patience = environment.get("MESH_PATIENCE", "1")
    if not (patience.isascii() and patience.isdecimal() and 0 < int(patience) <= PATIENCE_MAX):
        raise InvalidInput(f"MESH_PATIENCE is {patience!r}, not a number from 1 to {PATIENCE_MAX}")
    seed = environment.get("MESH_SEED_FILE")
    handed = environment.get("LISTEN_FDS") == "1" and environment.get("LISTEN_PID") == str(
        os.getpid()
    )
    return Settings(
        service=needed("MESH_SERVICE"),
        project=needed("MESH_PROJECT"),
        data_dir=Path(needed("MESH_DATA_DIR")),
        database_url=environment.get("DATABASE_URL", "sqlite://"),
        bus_url=needed("MESH_BUS_URL"),
        identity_file=Path(needed("MESH_IDENTITY_FILE")),
        seed_file=Path(seed) if seed else None,
        host=host,
        port=int(port),
        listen_fd=LISTEN_FD if handed else None,
        peers={
            name.removeprefix("MESH_URL_").lower().replace("_", "-"): url
            for name, url in environment.items()
            if name.startswith("MESH_URL_")
        },
        last_exit=environment.get("MESH_LAST_EXIT", ""),
        patience=int(patience),
    )
