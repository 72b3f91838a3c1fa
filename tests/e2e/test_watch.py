"""`mesh up --watch`: a changed service is started again, and nobody else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from tests.support.own import greeter_mesh
from tests.support.running import RunningMesh, eventually

if TYPE_CHECKING:
    from pathlib import Path

SLEEPER = "import time\nprint('begun', flush=True)\ntime.sleep(1000)\n"


@pytest.fixture
def watched(tmp_path: Path):
    (tmp_path / "tool").mkdir()
    (tmp_path / "tool" / "main.py").write_text(SLEEPER, "utf-8")
    tool = {
        "command": ["python3", "tool/main.py"],
        "healthcheck": {"disable": True},
        "develop": {"watch": [{"path": "tool", "action": "restart"}]},
    }
    running = greeter_mesh(tmp_path, tool=tool)
    running.run("up", "-d", "--watch")
    try:
        yield running
    finally:
        running.down()


def _pids(running: RunningMesh) -> dict[str, int]:
    return {name: row["pid"] for name, row in running.services().items()}


def _replaced(running: RunningMesh, before: dict[str, int], *names: str) -> bool:
    """Whether these, and only these, are other processes, and ready."""
    rows = running.services()
    after = {name: row["pid"] for name, row in rows.items() if row["state"] == "ready"}
    changed = {name for name, pid in after.items() if pid != before[name]}
    assert changed <= {*names}, changed
    return changed == {*names}


def test_changed_module_is_what_runs_next(watched: RunningMesh):
    before = _pids(watched)
    source = watched.directory / "myshop" / "greeter.py"
    source.write_text(source.read_text("utf-8").replace("Hello ", "Welcome, "), "utf-8")
    eventually(lambda: _replaced(watched, before, "greeter"), within_s=30)
    assert watched.json("call", "greeter", "greet")["body"]["text"].startswith("Welcome, Ada")
    assert watched.services()["greeter"]["restarts"] == 0
    transitions = [
        line for line in watched.lines("logs", "mesh") if line["message"] == "transition"
    ]
    assert any(line.get("cause") == "changed: greeter.py" for line in transitions)


def test_program_that_failed_is_tried_again_when_it_is_mended(watched: RunningMesh):
    source = watched.directory / "myshop" / "greeter.py"
    text = source.read_text("utf-8")
    source.write_text("this is no Python\n", "utf-8")
    eventually(lambda: watched.services()["greeter"]["state"] == "failed", within_s=30)
    source.write_text(text, "utf-8")
    eventually(lambda: watched.services()["greeter"]["state"] == "ready", within_s=30)


def test_any_program_is_watched_where_its_configuration_says(watched: RunningMesh):
    before = _pids(watched)
    (watched.directory / "tool" / "new.txt").write_text("x", "utf-8")
    eventually(lambda: _replaced(watched, before, "tool"), within_s=30)


def test_its_own_data_restarts_nobody(watched: RunningMesh):
    before = _pids(watched)
    watched.run("call", "greeter", "greet")
    (watched.directory / "elsewhere.py").write_text("x = 1\n", "utf-8")
    (watched.directory / "tool" / "main.py").write_text(SLEEPER + "\n", "utf-8")
    eventually(lambda: _replaced(watched, before, "tool"), within_s=30)


def test_stopped_program_stays_stopped(watched: RunningMesh):
    watched.run("stop", "greeter")
    before = _pids(watched)
    source = watched.directory / "myshop" / "greeter.py"
    source.write_text(source.read_text("utf-8") + "\n", "utf-8")
    (watched.directory / "tool" / "main.py").write_text(SLEEPER + "\n", "utf-8")
    eventually(lambda: _replaced(watched, before, "tool"), within_s=30)
    assert watched.services()["greeter"]["state"] == "stopped"


def test_watching_nothing_is_refused(tmp_path: Path):
    config = {"services": {"a": {"command": "sleep 100", "healthcheck": {"disable": True}}}}
    (tmp_path / "mesh.yaml").write_text(yaml.safe_dump(config), "utf-8")
    refused = RunningMesh(tmp_path).run("up", "-d", "--watch", exit_code=2).stderr
    assert "there is nothing to watch" in refused
