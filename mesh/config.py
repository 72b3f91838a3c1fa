"""Configuration as frozen structs: what was meant, every default filled in.

How a file is found, read and checked into them is `mesh.configs`.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Condition = Literal["service_started", "service_healthy", "service_completed_successfully"]


class Dependency(Struct, frozen=True, forbid_unknown_fields=True):
    """What must hold of another service before this one starts for the first time."""

    condition: Condition = "service_started"
    required: bool = True


class RestartPolicy(Struct, frozen=True):
    """`no`, `always` (never gives up), `on-failure` (gives up after `limit` in 60 s), `unless-stopped`."""

    when: Literal["no", "always", "on-failure", "unless-stopped"] = "on-failure"
    limit: int = 5


class Healthcheck(Struct, frozen=True):
    """A question asked again and again; durations in seconds.

    `test` is `("http", path)`, `("tcp",)`, `("CMD", argv…)`, `("CMD-SHELL", line)`, `("log", regex)`
    (a line of its log) or `("notify",)` (it says READY=1); `("NONE",)` is no question at all: a
    program that serves no port is ready once it runs. None: what is usual for such a program.

    Asked every `start_interval_s` until the first good answer (None: as often as is cheap), for
    `start_period_s` and `retries` intervals at most; then every `interval_s`.
    """

    test: tuple[str, ...] | None = None
    interval_s: float = 1.0
    timeout_s: float = 1.0
    retries: int = 3
    start_period_s: float = 10.0
    start_interval_s: float | None = None


class WatchRule(Struct, frozen=True):
    """Restart the service when something under `path` changes."""

    path: str
    action: Literal["restart"] = "restart"


class Sandbox(Struct, frozen=True):
    """What a program may touch beside its own folder, its log, code and libraries.

    `mode`: `auto` = walls where the kernel has them, `required` = not without, `off` = none. With
    `network` `peers` it connects to the ports in its URLs alone. `read` and `write` are further paths.
    """

    mode: Literal["auto", "required", "off"] = "auto"
    network: Literal["open", "peers"] = "open"
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()


class Service(Struct, frozen=True, kw_only=True):
    """One service of the configuration, values resolved."""

    name: str
    module: str | None = None
    command: tuple[str, ...] | None = None
    port: int = 0
    socket: Literal["inherit", "own"] = "inherit"
    database: str = "sqlite://"
    seed: dict[str, object] = {}
    calls: tuple[str, ...] = ()
    depends_on: dict[str, Dependency] = {}
    environment: dict[str, str] = {}
    env_file: tuple[str, ...] = ()
    working_dir: str = "."
    restart: RestartPolicy = RestartPolicy()
    stop_signal: str = "SIGTERM"
    stop_grace_period_s: float = 10.0
    healthcheck: Healthcheck | None = None
    sandbox: Sandbox = Sandbox()
    watch: tuple[WatchRule, ...] = ()


class Exercise(Struct, frozen=True, forbid_unknown_fields=True):
    """Where `mesh exercise` finds scenarios: a file `….py` or a module with `scenarios = (…)`."""

    scenarios: str | None = None


class Config(Struct, frozen=True, kw_only=True):
    """The whole configuration.

    `file` is where it was read from, `root` the folder that relative paths, `module:` names and
    `data/` start from.
    """

    name: str
    bus: str
    services: dict[str, Service]
    exercise: Exercise = Exercise()
    file: str
    root: str
