"""`configs/polyglot.yaml`: a program in Node among services in Python."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.support.running import RunningMesh, eventually

FILE = Path(__file__).parents[2] / "configs" / "polyglot.yaml"

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")


@pytest.fixture
def polyglot(tmp_path: Path):
    running = RunningMesh(
        tmp_path, file=FILE, environment={"MESH_DATA_DIR": str(tmp_path / "data")}
    )
    running.up()
    try:
        yield running
    finally:
        running.down()


def test_node_service_answers_and_asks_product(polyglot: RunningMesh):
    assert polyglot.services()["window"]["state"] == "ready"
    answer = polyglot.json("call", "window", "show")
    assert answer["status"] == 200
    assert answer["body"]["items"] == [
        {"name": "Desk lamp", "price": "24.90 EUR", "sold_out": False},
        {"name": "Mug", "price": "9.90 EUR", "sold_out": True},
    ]
    polyglot.run("stop", "product")
    assert polyglot.json("call", "window", "show", exit_code=1)["status"] == 503


def test_its_lines_stand_in_time_order_with_the_others(polyglot: RunningMesh):
    for _ in range(3):
        polyglot.run("call", "window", "show")
        polyglot.run("restart", "product")
    lines = polyglot.lines("logs")
    assert [line["time"] for line in lines] == sorted(line["time"] for line in lines)
    shown = [line["service"] for line in lines if line["message"] in {"shown", "ready"}]
    assert shown == ["product", "window", *(["window", "product"] * 3)]


def test_it_hears_of_stock_and_tells_what_is_in_the_window_once(polyglot: RunningMesh):
    [told] = eventually(lambda: _told(polyglot, 1), within_s=30)
    assert (told["type"], told["data"]) == ("window.filled", {"sku": "LAMP-1"})
    [cause] = [
        event
        for event in polyglot.lines("events", "tail", "--no-follow", "--type", "*.stock_changed")
        if event["id"] == told["causationid"]
    ]
    assert cause["subject"] == told["subject"]
    for name in ("window", "bus", "window"):
        polyglot.kill(name)
        polyglot.run("wait", name)
    assert eventually(lambda: _told(polyglot, 1), within_s=30) == [told]


def _told(running: RunningMesh, count: int) -> list[dict]:
    """What the window has told, once there is so much of it."""
    found = running.lines("events", "tail", "--no-follow", "-n", "1000", "--stream", "window")
    return found if len(found) >= count else []


def test_its_restart_refuses_nobody_and_its_kill_is_mended(polyglot: RunningMesh):
    pid = polyglot.kill("window")
    assert polyglot.ask("window", "GET", "/readyz").status == 200
    eventually(lambda: polyglot.services()["window"]["pid"] not in {pid, None}, within_s=30)
    polyglot.run("restart", "window")
    assert polyglot.ask("window", "GET", "/readyz").status == 200


def test_frozen_node_service_is_seen_by_its_health_check(polyglot: RunningMesh):
    polyglot.run("kill", "-s", "STOP", "window")
    eventually(lambda: polyglot.json("explain", "window")["last_exit"] is not None, within_s=30)
    transitions = [json.loads(line) for line in _journal(polyglot)]
    causes = [line["cause"] for line in transitions if line.get("name") == "window"]
    assert "health: no answer within 1 s" in causes


def _journal(running: RunningMesh) -> list[str]:
    return (running.directory / "data" / "logs" / "mesh.log").read_text("utf-8").splitlines()
