"""What was typed: the globals before the command, and what `mesh up` is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass
class Options:
    """`-f`, `-p`, `--data-dir`, `--debug`; None for what was not given."""

    file: str | None = None
    name: str | None = None
    data: str | None = None
    debug: bool = False


class Asked(NamedTuple):
    """What `mesh up` is asked for: these services or all, with what they need or not, and how."""

    services: Sequence[str]
    no_deps: bool
    free_ports: bool
    watch: bool
    no_sandbox: bool = False

    @property
    def options(self) -> list[str]:
        """How, as it is typed: what a mesh that is begun again has to be asked for anew."""
        said = {
            "--free-ports": self.free_ports,
            "--watch": self.watch,
            "--no-sandbox": self.no_sandbox,
        }
        return [option for option, asked in said.items() if asked]
