"""What `mesh up` runs: programs made of a configuration, and the files they are given.

The orchestrator knows programs only; this is the one place that knows what a service of ours
needs to be told.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mesh.config import RestartPolicy, Sandbox
from mesh.configs import environment, locate
from mesh.configs.check import BUS
from mesh.configs.reader import UNASKED
from mesh.errors import Broken, WrongUsage
from mesh.orchestrator import plan
from mesh.orchestrator.contract import Program
from mesh.tracing import variables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from mesh.bus import Broker
    from mesh.commands.project import Project
    from mesh.config import Config, Healthcheck, Service

START_S = 10.0
"""For a program whose `healthcheck` says nothing of it."""

EXPORTER = "otlp"
"""The program that sends spans, where the OTEL_… variables name a collector."""

PROCESS = "mesh.framework.process:run"
"""Entry of a service with a `module`, which is its argument."""


def chosen(config: Config, named: Sequence[str], *, no_deps: bool) -> list[str]:
    """The programs to start: those named, or all, and whatever they wait for, ask or tell."""
    edges = {
        name: [*service.depends_on, *service.calls, *([BUS] if service.module else [])]
        for name, service in config.services.items()
    }
    if config.bus:
        edges[BUS] = []
    if not named:
        return list(edges)
    return [name for name in edges if name in named] if no_deps else plan.closure(edges, named)


class Programs:
    """The programs of one configuration.

    Attributes:
        all: every one the configuration knows, in its order, the bus's last; then `beside`.
        beside: names of those that run whatever is started.
    """

    def __init__(self, project: Project, *, no_sandbox: bool = False) -> None:
        """Nothing is written yet. Raises: WrongUsage (the project is named like a service)."""
        self._no_sandbox = no_sandbox
        self._project_name = project.options.name
        self._config = project.config
        self._data = project.data
        if project.options.name in self._config.services:
            raise WrongUsage(
                f"a project cannot be named like the service `{project.options.name}`:"
                " their folders would lie in one another",
                hint="choose another name for -p",
            )
        self._broker: Broker | None = None
        if self._config.bus:
            from mesh import bus  # noqa: PLC0415  (a mesh without one pays for none)

            self._broker = bus.program(
                self._config.bus,
                directory=self._data / BUS,
                sockets=project.sockets / BUS,
                keys=self._identity / f"{BUS}.json",
            )
        self.all = [self._service(service) for service in self._config.services.values()]
        if self._broker is not None:
            self.all.append(self._bus(self._broker))
        self.beside = [EXPORTER] if variables.export(os.environ) is not None else []
        self.all += [self._exporter() for _ in self.beside]

    @property
    def preload(self) -> tuple[str, ...]:
        """Modules for the starter: the framework and the backends, never a configured module."""
        found: list[str] = []
        if self._config.bus:
            from mesh import bus  # noqa: PLC0415  (likewise)

            found += bus.modules(self._config.bus)
        ours = [service for service in self._config.services.values() if service.module]
        if ours:
            schemes = sorted({service.database.partition(":")[0] for service in ours})
            found += [
                PROCESS.partition(":")[0],
                *(f"mesh.databases.{scheme}" for scheme in schemes),
            ]
        return tuple(found)

    def _bus(self, broker: Broker) -> Program:
        """The broker, with a port of its own for programs that have no outbox."""
        services = self._config.services.values()
        return Program(
            name=BUS,
            entry=broker.entry,
            args=tuple(broker.args),
            sandbox=self._walls(Sandbox(network="peers"), self._identity / f"{BUS}.json"),
            writes=(str(self._data / BUS), *broker.writes),
            lists=(str(self._data / "backups"),),
            hidden=self._hidden,
            environment={
                "MESH_GUESTS": " ".join(each.name for each in services if not each.module),
                "PYTHONUNBUFFERED": "1",
            },
            port=0,
            restart=RestartPolicy("always"),
        )

    def _exporter(self) -> Program:
        """Sends spans to where the OTEL_… variables say; it reads every service's files.

        Raises: WrongUsage (a service has its name).
        """
        if EXPORTER in self._config.services:
            raise WrongUsage(
                f"a service cannot be named {EXPORTER} where spans are sent by OTLP",
                hint="unset OTEL_EXPORTER_OTLP_ENDPOINT, or set OTEL_TRACES_EXPORTER=none",
            )
        return Program(
            name=EXPORTER,
            entry="mesh.exporter:run",
            args=(str(self._data),),
            sandbox=Sandbox("off"),
            environment={"MESH_PROJECT": self._config.name, "PYTHONUNBUFFERED": "1"},
            restart=RestartPolicy("on-failure"),
        )

    def _service(self, service: Service) -> Program:
        depends_on = dict(service.depends_on)
        if self._broker is None:
            depends_on.pop(BUS, None)  # a bus that runs elsewhere is there
        asked = service.healthcheck
        unasked = asked is not None and asked.test == UNASKED
        return Program(
            name=service.name,
            entry=PROCESS if service.module else None,
            args=(service.module,) if service.module else (),
            command=service.command,
            environment=self._environment(service),
            watch=tuple(map(str, self._watched(service))),
            working_dir=str(Path(self._config.root) / service.working_dir),
            port=None if unasked and service.command and not service.port else service.port,
            socket=service.socket,
            peers=service.calls,
            addresses={"MESH_EVENTS_URL": f"{BUS}/events"} if self._broker else {},
            depends_on=depends_on,
            restart=service.restart,
            stop_signal=service.stop_signal,
            stop_grace_s=service.stop_grace_period_s,
            start_timeout_s=START_S if asked is None or unasked else _start_timeout_s(asked),
            health=asked,
            tokens=str(self._token_file(service)) if service.command else None,
            audiences=(*service.calls, *([BUS] if self._broker else [])),
            sandbox=self._walls(service.sandbox, *self._files(service)),
            writes=(str(self._data / service.name),),
            reads=self._code(service),
            lists=(str(self._data / "backups"),),
            hidden=self._hidden,
        )

    def _walls(self, sandbox: Sandbox, *files: Path) -> Sandbox:
        """As configured, with absolute paths, unless the command line wants none.

        Args:
            files: of ours that the program reads.
        """
        root = Path(self._config.root)
        return Sandbox(
            "off" if self._no_sandbox else sandbox.mode,
            sandbox.network,
            (*map(str, files), *(str(root / path) for path in sandbox.read)),
            tuple(str(root / path) for path in sandbox.write),
        )

    def _files(self, service: Service) -> tuple[Path, ...]:
        own = f"{service.name}.json"
        return (self._identity / own, self._seed / own, self._token_file(service).parent)

    def _code(self, service: Service) -> tuple[str, ...]:
        """The project's folder. The built-in shop has none: it is begun anywhere, at home too."""
        if self._config.file == str(locate.built_in()):
            return ()
        root = Path(self._config.root)
        return (str(root), str(root / service.working_dir))

    @property
    def _hidden(self) -> tuple[str, ...]:
        """The folders of everybody's data: this mesh's, and those of its siblings by `-p`."""
        data = self._data.parent if self._project_name else self._data
        if not Path(self._config.root).is_relative_to(data):
            return (str(data),)
        own = ("backups", "logs", "run", BUS, *self._config.services)
        return tuple(str(self._data / name) for name in own)

    def _watched(self, service: Service) -> list[Path]:
        """What its configuration names, else the files of its module where they can be found."""
        root = Path(self._config.root).absolute()
        if service.watch or service.module is None:
            return [root / rule.path for rule in service.watch]
        place = Path(*service.module.split("."))
        for base in (root, *map(Path, sys.path)):
            for found in (base / place, base / place.with_suffix(".py")):
                if found.exists():
                    return [found.resolve()]
        return []

    def _environment(self, service: Service) -> dict[str, str]:
        """What we say first, so that `env_file` and then `environment` may say otherwise."""
        said = {
            "MESH_PROJECT": self._config.name,
            "MESH_DATA_DIR": str(self._data / service.name),
            "DATABASE_URL": service.database,
            "PYTHONUNBUFFERED": "1",
        }
        if service.sandbox.mode != "off" and not self._no_sandbox:
            said["TMPDIR"] = str(self._scratch(service))
        if service.command:
            said["MESH_TOKEN_FILE"] = str(self._token_file(service))
            if service.database == "sqlite://":
                said["DATABASE_URL"] = f"sqlite:///{self._data / service.name / service.name}.db"
        if service.module:
            said["MESH_IDENTITY_FILE"] = str(self._identity / f"{service.name}.json")
            said["MESH_BUS_URL"] = self._broker.client_url if self._broker else self._config.bus
            if service.seed:
                said["MESH_SEED_FILE"] = str(self._seed / f"{service.name}.json")
        for file in service.env_file:
            found, _ = environment.read(Path(self._config.root) / file)
            said |= found
        return said | service.environment

    @property
    def _identity(self) -> Path:
        return self._data / "run" / "identity"

    @property
    def _tokens(self) -> Path:
        return self._data / "run" / "tokens"

    def _token_file(self, service: Service) -> Path:
        """In a folder of its own, which the program may read: the file is another one every 20 s."""
        return self._tokens / service.name / "tokens.json"

    def _scratch(self, service: Service) -> Path:
        """In place of /tmp, which is everybody's; emptied when the mesh begins."""
        return self._data / service.name / "tmp"

    @property
    def _seed(self) -> Path:
        return self._data / "run" / "seed"

    def prepare(self) -> Callable[[str, str], str]:
        """Write identities and seeds; returns what mints tokens. Only under the mesh's lock.

        Raises: Broken when they cannot be written.
        """
        from mesh import tokens  # noqa: PLC0415  (beside the starter's own imports)

        services = self._config.services
        try:
            for folder in (self._identity, self._seed, self._tokens):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                _empty(folder.rglob("*.json"))
            for name in ("backups", *services):
                (self._data / name).mkdir(mode=0o700, exist_ok=True)
            for name in services:
                self._token_file(services[name]).parent.mkdir(mode=0o700, exist_ok=True)
                shutil.rmtree(self._scratch(services[name]), ignore_errors=True)
                self._scratch(services[name]).mkdir(mode=0o700, exist_ok=True)
            calls = {name: service.calls for name, service in services.items()} | {BUS: ()}
            operator = tokens.provision(self._identity, project=self._config.name, calls=calls)
            for name, service in services.items():
                if service.seed:
                    _write(self._seed / f"{name}.json", service.seed)
        except OSError as error:
            raise Broken(
                f"{error.filename or self._data}: {error.strerror}", hint="mesh doctor"
            ) from None
        return operator.token


def _start_timeout_s(asked: Healthcheck) -> float:
    """As Compose counts: nothing counts in the start period, then `retries` bad answers do."""
    return asked.start_period_s + asked.retries * asked.interval_s


def _empty(files: Iterable[Path]) -> None:
    for file in files:
        file.unlink()


def _write(path: Path, value: object) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "w", encoding="utf-8") as file:
        json.dump(value, file)
