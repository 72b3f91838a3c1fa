"""Idle is not what has yet to start."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from tests.support.running import RunningMesh

if TYPE_CHECKING:
    from pathlib import Path


def test_program_that_is_starting_is_waited_for(tmp_path: Path):
    slow = {
        "command": ["sleep", "1000"],
        "port": 0,
        "socket": "own",
        "healthcheck": {"test": ["CMD", "test", "-e", "well"], "interval": "100ms"},
    }
    behind = {
        "command": ["sleep", "1000"],
        "port": 0,
        "healthcheck": {"disable": True},
        "depends_on": {"slow": {"condition": "service_healthy"}},
    }
    config = {"name": "idle", "services": {"slow": slow, "behind": behind}}
    (tmp_path / "mesh.yaml").write_text(yaml.safe_dump(config), "utf-8")
    (tmp_path / "well").touch()
    mesh = RunningMesh(tmp_path).up()
    try:
        mesh.run("stop", "slow", "behind")
        (tmp_path / "well").unlink()
        mesh.run("start", "slow", "behind")
        early = mesh.run("wait", "--for", "idle", "--timeout", "1", exit_code=4)
        assert "slow is starting" in early.stderr
        assert "behind is starting" in early.stderr
        (tmp_path / "well").touch()
        mesh.run("wait", "--for", "idle", "--timeout", "30")
        assert {row["state"] for row in mesh.services().values()} == {"ready"}
    finally:
        mesh.down()
