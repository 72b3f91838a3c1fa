"""What no single key can tell: whether the parts of a configuration fit one another."""

from __future__ import annotations

import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import mesh
from mesh.configs import environment
from mesh.configs.complaints import Place, suggestion

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mesh.config import Config
    from mesh.configs.document import Node
    from mesh.configs.values import Item

BUS = "bus"
"""The name under which the bus's own program is depended on, shown and stopped."""


def schemes(kind: str) -> list[str]:
    """URL schemes with a backend of this `kind` (`buses`, `databases`).

    A backend is a folder named like its scheme; listing names imports nothing.
    """
    folder = Path(mesh.__file__).parent / kind
    return sorted(found.name for found in pkgutil.iter_modules([str(folder)]) if found.ispkg)


class _Check:
    """One pass over a configuration, with the document it came from for the places."""

    def __init__(self, config: Config, document: Item) -> None:
        self.config = config
        self.document = document
        self.complaints = document.complaints

    def at(self, *steps: str | int) -> Place:
        """The place of a value, or of the nearest thing around it; a member's is its key."""
        node: Node = self.document.node
        place = node.at
        for step in steps:
            if isinstance(step, int) and isinstance(node.value, list) and step < len(node.value):
                node = node.value[step]
                place = node.at
            elif isinstance(step, str) and isinstance(node.value, dict) and step in node.value:
                place = node.keys[step]
                node = node.value[step]
            elif isinstance(step, str) and isinstance(node.value, list):
                same = [child for child in node.value if child.value == step]
                return same[0].at if same else place
            else:
                break
        return place

    def add(self, at: Place, path: str, text: str) -> None:
        self.complaints.add(at, f"{path}: {text}")

    def urls(self) -> None:
        """Every URL has a backend here."""
        if self.config.bus:
            self._scheme("buses", self.config.bus, self.at("bus"), "bus")
        for name, service in self.config.services.items():
            if service.module and not self.config.bus:
                needs = "a `module` needs a bus, for example `bus: zmq://`"
                self.add(self.at("services", name), f"services.{name}", needs)
            where = self.at("services", name, "database")
            self._scheme("databases", service.database, where, f"services.{name}.database")

    def _scheme(self, kind: str, url: str, at: Place, path: str) -> None:
        have = schemes(kind)
        scheme = urlsplit(url).scheme
        if scheme not in have:
            listed = ", ".join(f"{name}://" for name in have) or "none"
            near = suggestion(scheme, have)
            self.add(at, path, f"there is no backend for {scheme}://; present: {listed}{near}")

    def peers(self) -> None:
        """Whoever is named exists."""
        services = self.config.services
        for name, service in services.items():
            for peer in service.calls:
                if peer not in services:
                    where = self.at("services", name, "calls", peer)
                    self._unknown(where, f"services.{name}.calls", peer, services)
            for peer in service.depends_on:
                where = self.at("services", name, "depends_on", peer)
                path = f"services.{name}.depends_on"
                if peer == BUS:
                    if not self.config.bus:
                        self.add(where, path, "there is no `bus:`, for example `bus: zmq://`")
                elif peer not in services:
                    self._unknown(where, path, peer, [*services, BUS])

    def _unknown(self, at: Place, path: str, peer: str, known: Iterable[str]) -> None:
        self.add(at, path, f"there is no service `{peer}`{suggestion(peer, known)}")

    def ports(self) -> None:
        """No two services ask for one port."""
        taken: dict[int, str] = {}
        for name, service in self.config.services.items():
            if service.port == 0:
                continue
            other = taken.setdefault(service.port, name)
            if other != name:
                where = self.at("services", name, "port")
                self.add(where, f"services.{name}.port", f"{service.port} is `{other}`'s already")

    def cycles(self) -> None:
        """Nobody waits for itself, however indirectly. Each cycle is told once."""
        services = self.config.services
        done: set[str] = set()
        told: set[frozenset[str]] = set()

        def walk(name: str, path: list[str]) -> None:
            if name in path:
                cycle = path[path.index(name) :]
                if frozenset(cycle) not in told:
                    told.add(frozenset(cycle))
                    where = self.at("services", cycle[-1], "depends_on", name)
                    shown = " -> ".join([*cycle, name])
                    self.add(where, f"services.{cycle[-1]}.depends_on", f"a cycle: {shown}")
                return
            if name in done or name not in services:
                return
            for peer in services[name].depends_on:
                walk(peer, [*path, name])
            done.add(name)

        for name in services:
            walk(name, [])

    def files(self) -> None:
        """Folders and variable files exist; the files can be read."""
        root = Path(self.config.root)
        for name, service in self.config.services.items():
            path = f"services.{name}"
            if not (root / service.working_dir).is_dir():
                where = self.at("services", name, "working_dir")
                self.add(where, f"{path}.working_dir", f"no folder {service.working_dir}")
            for key, paths in (("read", service.sandbox.read), ("write", service.sandbox.write)):
                for shown in paths:
                    if not (root / shown).exists():
                        where = self.at("services", name, "sandbox", key, shown)
                        self.add(where, f"{path}.sandbox.{key}", f"no folder or file {shown}")
            for file in service.env_file:
                _, wrong = environment.read(root / file)
                where = self.at("services", name, "env_file", file)
                for text in wrong:
                    self.add(where, f"{path}.env_file", f"{file}: {text}")


def check(config: Config, document: Item) -> None:
    """Add a complaint for everything that does not fit."""
    checks = _Check(config, document)
    checks.urls()
    checks.peers()
    checks.ports()
    checks.cycles()
    checks.files()
