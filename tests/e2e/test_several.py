"""Several meshes at once, each with its own data, ports, sockets and name."""

from __future__ import annotations

import json
import random
from pathlib import Path

import psutil
import pytest

from tests.support.running import RunningMesh


def _as(mesh: RunningMesh, name: str, *args: str, exit_code: int | None = 0):
    return mesh.run("-p", name, *args, exit_code=exit_code)


def test_two_meshes_run_side_by_side(tmp_path: Path):
    running = RunningMesh(tmp_path)
    try:
        for name in ("one", "two"):
            _as(running, name, "up", "-d")
        listed = {
            mesh["project"]: mesh
            for mesh in running.json("ls")["meshes"]
            if str(tmp_path) in mesh["data_dir"]
        }
        assert {name: mesh["up"] for name, mesh in listed.items()} == {"one": 5, "two": 5}
        assert listed["one"]["data_dir"] == str(tmp_path / "data" / "one")
        orders = [
            json.loads(_as(running, name, "call", "order", "create", "--json").stdout)["body"]["id"]
            for name in ("one", "two", "two")
        ]
        listed_orders = [
            json.loads(_as(running, name, "call", "order", "list", "--json").stdout)["body"][
                "items"
            ]
            for name in ("one", "two")
        ]
        placed = [[item["id"] for item in items if item["id"] in orders] for items in listed_orders]
        assert (len(set(orders)), [len(found) for found in placed]) == (3, [1, 2])
        refused = _as(running, "one", "up", "-d", exit_code=1).stderr
        assert f"pid {listed['one']['pid']}" in refused
        _as(running, "one", "down")
        assert len(json.loads(_as(running, "two", "ps", "--json").stdout)["services"]) == 5
    finally:
        for name in ("one", "two"):
            _as(running, name, "down", exit_code=None)


@pytest.mark.parametrize("how", ["in another directory", "by --data-dir"])
def test_same_ports_are_refused_with_their_holder_and_free_ones_are_not(tmp_path: Path, how: str):
    first = RunningMesh(tmp_path / "first", environment={"MESH_FREE_PORTS": "0"})
    second = RunningMesh(tmp_path / "second", environment={"MESH_FREE_PORTS": "0"})
    ports = random.sample(range(20_000, 30_000), 2)
    for mesh in (first, second):
        mesh.directory.mkdir()
        (mesh.directory / "mesh.yaml").write_text(
            "services:\n"
            f"  a: {{command: python3 -m http.server {ports[0]} -b 127.0.0.1, port: {ports[0]}}}\n"
            f"  b: {{command: python3 -m http.server {ports[1]} -b 127.0.0.1, port: {ports[1]}}}\n"
        )
    where = [] if how == "in another directory" else ["--data-dir", str(second.directory / "own")]
    other = second if how == "in another directory" else first
    first.up()
    try:
        refused = other.run(*where, "up", "-d", exit_code=5)
        assert f"port {ports[0]} of a is taken by pid" in refused.stderr
        assert "mesh up --free-ports" in refused.stderr
        assert other.run(*where, "ps", exit_code=3)
    finally:
        first.down()


def test_starter_has_one_thread_and_forks_draw_their_own_chance(tmp_path: Path):
    """The shop's own preload, and whatever that may start behind our back."""
    running = RunningMesh(tmp_path).up()
    try:
        pids = {row["pid"] for row in running.services().values()}
        (starter,) = [
            child
            for child in psutil.Process(running.supervisor()).children()
            if child.pid not in pids and "starter.py" in " ".join(child.cmdline())
        ]
        assert starter.num_threads() == 1
        loops = [link for link in _links(starter.pid) if "eventpoll" in link or "eventfd" in link]
        assert loops == []
    finally:
        running.down()


def _links(pid: int) -> list[str]:
    folder = Path(f"/proc/{pid}/fd")
    return [str(entry.readlink()) for entry in folder.iterdir()]
