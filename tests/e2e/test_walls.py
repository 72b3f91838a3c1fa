"""The walls around a program, tried from inside by a service in the place of order."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mesh.commands.options import Options
from mesh.commands.programs import Programs
from mesh.commands.project import Project
from mesh.orchestrator import landlock, walls
from tests.support.running import SHOP, RunningMesh

HERE = Path(__file__).parent
WITHOUT_LANDLOCK = HERE.parent / "support" / "without_landlock.py"

READ_BY_ROOT = {"read user's environment"}
"""Newer kernels show it to whoever has CAP_PERFMON; nothing secret is in it."""

needs_landlock = pytest.mark.skipif(
    landlock.abi() < landlock.SCOPES_ABI,
    reason=f"needs Landlock {landlock.SCOPES_ABI}; this kernel has {landlock.abi()}",
)


def intruding(directory: Path, sandbox: object, network: str = "peers") -> RunningMesh:
    """The shop with an intruder as order; not started."""
    write_intruding(directory, sandbox, network)
    return RunningMesh(directory)


def write_intruding(directory: Path, sandbox: object, network: str = "peers") -> None:
    """What such a shop is made of."""
    shutil.copytree(HERE / "intruder", directory / "intruder")
    config = yaml.safe_load(SHOP.read_text("utf-8"))
    for service in config["services"].values():
        service["sandbox"] = {"mode": sandbox, "network": network}
    config["services"]["order"]["module"] = "intruder.order"
    (directory / "mesh.yaml").write_text(yaml.safe_dump(config), "utf-8")


def tried(running: RunningMesh) -> tuple[dict[str, str], dict[str, str]]:
    """How every attempt went: those that walls forbid, and those they allow."""
    data = running.directory / "data"
    for victim in ("victim", "victim.old"):
        (data / "user" / victim).write_text("precious")
    (data / "backups" / "one").write_text("precious")
    name = f"mesh-test-{running.supervisor()}"
    with (
        socket.create_server(("127.0.0.1", 0)) as elsewhere,
        socket.socket(socket.AF_UNIX) as heard,
    ):
        heard.bind(f"\0{name}")
        heard.listen()
        target = {
            "user_pid": running.services()["user"]["pid"],
            "user_port": running.services()["user"]["port"],
            "foreign_port": elsewhere.getsockname()[1],
            "abstract": name,
            "control": str(running.runtime_directory() / "control.sock"),
            "outside": str(running.directory.parent / f"{running.directory.name}-outside"),
        }
        answer = running.ask("order", "POST", "/trespass", target)
    assert answer.status == 200, answer
    return answer.body["forbidden"], answer.body["allowed"]


@needs_landlock
def test_order_reaches_nothing_that_is_not_its_own(tmp_path: Path):
    running = intruding(tmp_path, "required").up()
    try:
        forbidden, allowed = tried(running)
        rows = running.services().values()
        doctor = running.run("doctor", exit_code=None).stdout
    finally:
        running.down()
    done = {what for what, how in forbidden.items() if how == "done"}
    assert done - (READ_BY_ROOT if os.geteuid() == 0 else set()) == set()
    assert {what: how for what, how in allowed.items() if how != "done"} == {}
    assert (tmp_path / "data" / "user" / "victim").read_text() == "precious"
    assert {row["sandbox"] for row in rows} == {"landlock"}
    assert "walls around files, ports, devices, signals" in doctor


def test_order_reaches_everything_where_the_walls_are_off(tmp_path: Path):
    """Every attempt works by itself: it is the walls that refuse it."""
    running = intruding(tmp_path, "required").up("--no-sandbox")
    try:
        forbidden, allowed = tried(running)
        rows = running.services()
    finally:
        running.down()
    assert {what: how for what, how in forbidden.items() if how != "done"} == {}
    assert {what: how for what, how in allowed.items() if how != "done"} == {}
    assert {row["sandbox"] for row in rows.values()} == {"off"}


def without_landlock(running: RunningMesh, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, WITHOUT_LANDLOCK, sys.executable, "-m", "mesh", *args],
        cwd=running.directory,
        env={**os.environ, "MESH_FREE_PORTS": "1", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_kernel_without_landlock_is_told_of_and_refused_where_it_is_required(tmp_path: Path):
    optional = minimal(tmp_path / "optional", "auto")
    try:
        up = without_landlock(optional, "up", "-d")
        rows = optional.services()
        doctor = without_landlock(optional, "doctor")
    finally:
        optional.down()
    assert up.returncode == 0
    assert "no sandbox: this kernel has no Landlock, so nothing keeps product, bus" in up.stderr
    assert {row["sandbox"] for row in rows.values()} == {"none"}
    assert "warn  sandbox" in doctor.stdout

    required = minimal(tmp_path / "required", "required")
    refused = without_landlock(required, "up", "-d")
    assert refused.returncode == 5
    assert "product: not to run without a sandbox" in refused.stderr
    assert "hint: sandbox: auto, or mesh up --no-sandbox" in refused.stderr
    assert "fail  sandbox" in without_landlock(required, "doctor").stdout
    required.run("ps", exit_code=3)


def minimal(directory: Path, mode: str) -> RunningMesh:
    directory.mkdir()
    config = {
        "name": "minimal",
        "bus": "zmq://",
        "services": {"product": {"module": "mesh.services.product", "sandbox": mode}},
    }
    (directory / "mesh.yaml").write_text(yaml.safe_dump(config), "utf-8")
    return RunningMesh(directory)


INTRUDING_BUS = """
import json, os, socket, sys
from mesh.orchestrator import landlock
grants, runtime = json.loads(sys.argv[1]), sys.argv[2]
landlock.enter(grants)

def bind(path):
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(path)

attempts = {
    "unlink control.sock": lambda: os.unlink(f"{runtime}/control.sock"),
    "bind beside it": lambda: bind(f"{runtime}/notify-9"),
    "write beside it": lambda: open(f"{runtime}/file", "w").close(),
    "move its own folder": lambda: os.rename(f"{runtime}/bus", f"{runtime}/mine"),
    "move a socket out": lambda: os.rename(f"{runtime}/bus/bus.feed", f"{runtime}/control.sock"),
    "bind its own": lambda: bind(f"{runtime}/bus/mine"),
    "unlink its own": lambda: os.unlink(f"{runtime}/bus/mine"),
}
for name, attempt in attempts.items():
    try:
        attempt()
    except OSError as error:
        attempts[name] = type(error).__name__
    else:
        attempts[name] = "done"
print(json.dumps(attempts))
"""


@needs_landlock
def test_bus_reaches_only_its_own_sockets(tmp_path: Path):
    running = minimal(tmp_path / "mesh", "required").up()
    try:
        options = Options(file=str(running.directory / "mesh.yaml"))
        project = Project(options, env={}, cwd=running.directory)
        [bus] = [each for each in Programs(project).all if each.name == "bus"]
        around = walls.planned(bus, {"PATH": os.environ["PATH"]}, running.directory / "bus.log")
        assert around is not None
        arguments = [json.dumps(around["grants"]), str(running.runtime_directory())]
        done = subprocess.run(
            [sys.executable, "-c", INTRUDING_BUS, *arguments],
            capture_output=True,
            text=True,
            check=True,
        )
        assert running.services()["bus"]["state"] == "ready"
    finally:
        running.down()
    *others, bound, unlinked = json.loads(done.stdout).values()
    assert (bound, unlinked) == ("done", "done")
    assert set(others) <= {"PermissionError", "OSError"}, done.stdout
