"""One mesh to be run in this process: the configuration as programs, and the files they are given."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mesh import codec
from mesh.commands import output, space
from mesh.commands.programs import Programs, chosen
from mesh.commands.project import Project, check_names
from mesh.orchestrator import walls
from mesh.orchestrator.host import supervise

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mesh.commands.options import Asked
    from mesh.orchestrator.contract import Outcome, Status, Transition
    from mesh.orchestrator.ignition import Ignited


class Mesh:
    """What was asked for, checked; nothing is begun.

    Raises: NotFound (a name), ConfigInvalid, WrongUsage; ProgramFailed (`sandbox: required`, and
        there is none to be had).

    Attributes:
        names: the programs to start.
    """

    def __init__(self, project: Project, asked: Asked) -> None:
        """Read the configuration."""
        check_names(asked.services, project.programs)
        self.names = chosen(project.config, asked.services, no_deps=asked.no_deps)
        self._project = project
        self._asked = asked
        self._programs = Programs(project, no_sandbox=asked.no_sandbox)
        self.names += self._programs.beside
        self._mint: Callable[[str, str], str] | None = None
        if bare := walls.check(self._programs.all):
            output.note(
                ("no sandbox:", "warn"),
                f" this kernel has no Landlock, so nothing keeps {', '.join(bare)} from any file",
            )
            output.note(("hint:", "cyan"), " mesh doctor; sandbox: off where that is meant")

    def run(
        self,
        ignited: Ignited,
        *,
        linger: bool,
        on_change: Callable[[Mapping[str, object]], None],
    ) -> Outcome:
        """Be the supervisor until the mesh ends. Under its lock files are written first.

        Raises: StorageFull; what `supervise` raises.
        """

        def changed(change: Status | Transition) -> None:
            if self._mint is None:
                self._mint = self._programs.prepare()
            on_change(codec.plain(change))

        config, data = self._project.config, self._project.data
        os.umask(0o077)
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        space.check(data)
        return supervise(
            self._programs.all,
            project=config.name,
            data_dir=data,
            config_file=config.file,
            mint=self._token,
            start=self.names,
            preload=self._programs.preload,
            free_ports=self._asked.free_ports,
            linger=linger,
            watch=self._asked.watch,
            options=self._asked.options,
            ignited=ignited,
            on_change=changed,
        )

    def _token(self, subject: str, audience: str) -> str:
        assert self._mint is not None  # the socket is served after the first status
        return self._mint(subject, audience)
