"""The shop is in the wheel: installed, it runs in any empty directory."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from tests.support.running import RunningMesh

ROOT = Path(__file__).parents[2]


def test_wheel_runs_the_built_in_shop_in_an_empty_directory(tmp_path: Path):
    built = tmp_path / "dist"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "-q",
            "--no-deps",
            "--no-build-isolation",
            "--disable-pip-version-check",
            "-w",
            str(built),
            str(ROOT),
        ],
        check=True,
        capture_output=True,
    )
    (wheel,) = built.glob("mesh-*.whl")
    installed = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(installed)
    empty = tmp_path / "empty"
    empty.mkdir()
    mesh = RunningMesh(empty, environment={"PYTHONPATH": str(installed)})
    where = mesh.run("config").stderr
    assert str(installed / "mesh" / "configs" / "mesh.yaml") in where
    mesh.up()
    try:
        assert mesh.json("call", "order", "create")["body"]["status"] == "reserved"
    finally:
        mesh.down()
    assert sorted(path.name for path in empty.iterdir()) == ["data"]
