"""The mesh a command is about: where it lies, what its file says, whether it runs.

Each of these is found out when it is first asked for, so that `mesh ps` of a running mesh reads
no YAML, and `mesh down` works although the file has been broken since.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from mesh.commands.options import Options
from mesh.configs import locate
from mesh.configs.complaints import suggestion
from mesh.errors import NotFound
from mesh.orchestrator import state
from mesh.orchestrator.remote import Remote

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import click

    from mesh.config import Config


def check_names(names: Iterable[str], known: Sequence[str], *, what: str = "service") -> None:
    """Refuse the first name that is not among the known ones, with a suggestion.

    Raises: NotFound.
    """
    for name in names:
        if name not in known:
            raise NotFound(
                f"there is no {what} `{name}`{suggestion(name, known)}",
                code=f"unknown-{what}",
                hint=f"known are: {', '.join(known) or 'none'}",
            )


@dataclass(frozen=True, slots=True)
class Running:
    """What a running mesh says of itself on disk. `urls` are those of programs with a port."""

    project: str
    pid: int
    urls: dict[str, str]

    @property
    def services(self) -> dict[str, str]:
        """The URLs of services; the bus's is for programs and the operator."""
        return {name: url for name, url in self.urls.items() if name != "bus"}


@dataclass
class Project:
    """What follows from the globals of the command line."""

    options: Options
    env: Mapping[str, str] = field(default_factory=lambda: os.environ)
    cwd: Path = field(default_factory=Path.cwd)

    @classmethod
    def of(cls, ctx: click.Context) -> Project:
        """The project of this command line."""
        return cls(ctx.ensure_object(Options))

    @cached_property
    def location(self) -> locate.Location:
        """The configuration's place. Raises ConfigInvalid."""
        return locate.locate(self.options.file, env=self.env, cwd=self.cwd)

    @cached_property
    def data(self) -> Path:
        """The directory that holds everything this mesh writes."""
        return locate.data_directory(
            self.location.root,
            option=self.options.data,
            project=self.options.name,
            env=self.env,
            cwd=self.cwd,
        )

    @cached_property
    def config(self) -> Config:
        """The configuration, read and checked; `-p` gives it its name. Raises ConfigInvalid."""
        from mesh import codec  # noqa: PLC0415  (only for those who read the file)
        from mesh.configs import reader  # noqa: PLC0415  (likewise)

        config = reader.read(self.location, env=self.env, cwd=self.cwd)
        return codec.replace(config, name=self.options.name) if self.options.name else config

    @property
    def programs(self) -> list[str]:
        """Every name the configuration knows: its services, and the bus where there is one."""
        return [*self.config.services, *(["bus"] if self.config.bus else [])]

    def running(self) -> Running:
        """What the mesh that runs here says of itself. Raises NotRunning."""
        found = self.remote().run
        urls = {name: endpoint["url"] for name, endpoint in found["services"].items()}
        return Running(found["project"], found["pid"], urls)

    def remote(self) -> Remote:
        """The mesh that runs on this data directory, to be asked. Raises NotRunning."""
        return Remote.find(self.data)

    def check_services(self, names: Sequence[str]) -> None:
        """Refuse names that nobody has: at once, also when nothing runs.

        A running mesh checks names itself, so that a file broken since is no hindrance.

        Raises: NotFound, ConfigInvalid.
        """
        if names and state.running(self.data) is None:
            check_names(names, self.programs)

    @property
    def sockets(self) -> Path:
        """The short folder for this mesh's sockets."""
        return state.runtime_dir(self.data)

    @property
    def logs(self) -> Path:
        """Where the programs' log files lie."""
        return self.data / "logs"
