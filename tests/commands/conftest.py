from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mesh import cli

if TYPE_CHECKING:
    from collections.abc import Callable

SNAPSHOTS = Path(__file__).parents[1] / "snapshots"
WRITE = os.environ.get("MESH_SNAPSHOTS") == "write"

CONFIG = """\
name: shop
bus: zmq://
services:
  product:
    module: mesh.services.product
    port: 7003
  order:
    module: mesh.services.order
    port: 7004
    calls: [product]
    depends_on: {bus: {condition: service_healthy}}
"""


@dataclass
class Done:
    """One command line, run to its end."""

    args: tuple[str, ...]
    code: int
    out: str
    err: str

    def text(self, folder: Path) -> str:
        """Everything a person would see, as a snapshot keeps it."""
        shown = (
            f"$ mesh {' '.join(self.args)}\n{self.out}--- stderr\n{self.err}--- exit {self.code}\n"
        )
        return shown.replace(str(folder), "<here>")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with a configuration, no variables of ours, 100 columns, no colours."""
    for name in [name for name in os.environ if name.startswith("MESH_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mesh.yaml").write_text(CONFIG)
    return tmp_path


@pytest.fixture
def mesh(here: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Run `mesh ARGS` in this process, in that folder."""

    def run(*args: str) -> Done:
        code = cli.run(args)
        out, err = capsys.readouterr()
        return Done(args, code, out, err)

    return run


@pytest.fixture
def snapshot(here: Path) -> Callable[[str, Done], None]:
    """Compare with tests/snapshots/NAME.txt; MESH_SNAPSHOTS=write writes it instead."""

    def check(name: str, done: Done) -> None:
        file = SNAPSHOTS / f"{name}.txt"
        shown = done.text(here)
        if WRITE:
            file.write_text(shown, encoding="utf-8")
        assert shown == file.read_text(encoding="utf-8")

    return check


@pytest.fixture
def kept() -> Callable[[str, list[str]], None]:
    """The same for lines that no command printed."""

    def check(name: str, shown: list[str]) -> None:
        file = SNAPSHOTS / f"{name}.txt"
        if WRITE:
            file.write_text("\n".join(shown) + "\n", encoding="utf-8")
        assert shown == file.read_text(encoding="utf-8").splitlines()

    return check
