"""Programs that are not ours hear and tell events over HTTP, each once, whatever is killed."""

from __future__ import annotations

import random
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.support.running import SHOP, RunningMesh, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent / "guests"
COMMANDS = {
    "python": [sys.executable, str(HERE / "labels.py")],
    "node": ["node", str(HERE / "labels.js")],
}


@pytest.fixture(params=COMMANDS)
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RunningMesh]:
    command = COMMANDS[request.param]
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    config = yaml.safe_load(SHOP.read_text("utf-8"))
    for service in config["services"].values():
        service["restart"] = "always"
    config["services"]["labels"] = {
        "command": command,
        "restart": "always",
        "depends_on": {"bus": {"condition": "service_healthy"}},
        "healthcheck": {"test": "NONE"},
    }
    (tmp_path / "mesh.yaml").write_text(yaml.safe_dump(config), "utf-8")
    running = RunningMesh(tmp_path)
    running.up()
    try:
        yield running
    finally:
        running.down()


def _events(mesh: RunningMesh) -> list[dict]:
    return mesh.lines("events", "tail", "--no-follow", "-n", "100000")


def _labelled(mesh: RunningMesh) -> bool:
    events = _events(mesh)
    told = {event["id"] for event in events if event["type"].startswith("product.")}
    return told == {event["data"]["of"] for event in events if event["type"] == "labels.printed"}


def test_every_event_is_labelled_once_while_program_and_bus_are_killed(shop: RunningMesh):
    chance = random.Random(1)
    for n in range(5):
        product = shop.product(on_hand=1, sku=f"SKU-{n}")
        shop.restock(product, 1)
        shop.kill(chance.choice(["labels", "bus"]))
        time.sleep(chance.uniform(0, 0.3))
        shop.run("wait", "labels", "bus", "--timeout", "30")
    eventually(lambda: _labelled(shop), within_s=30)
    labels = [event for event in _events(shop) if event["type"] == "labels.printed"]
    assert len({event["data"]["of"] for event in labels}) == len(labels) > 10
    assert [int(event["sequence"]) for event in labels] == list(range(1, len(labels) + 1))
    assert {(event["source"], event["stream"]) for event in labels} == {("/labels", "labels")}
    assert all(event["causationid"] == event["data"]["of"] for event in labels)


def test_events_of_programs_survive_the_loss_of_the_log(shop: RunningMesh):
    eventually(lambda: _labelled(shop), within_s=30)
    before = [event for event in _events(shop) if event["stream"] == "labels"]
    shop.run("stop", "bus")
    for file in (shop.directory / "data" / "bus").glob("bus.db*"):
        file.unlink()
    shop.run("start", "bus")
    shop.product(on_hand=1)
    eventually(lambda: _labelled(shop), within_s=30)
    after = [event for event in _events(shop) if event["stream"] == "labels"]
    assert after[: len(before)] == before
    assert len({event["data"]["of"] for event in after}) == len(after) > len(before)
