"""product is slow, deaf, resets, half open or trickles: order answers in time and soon recovers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, get_args

import pytest
import yaml

from tests.support.obstacle import Fault, Obstacle
from tests.support.running import LAMP, SHOP, USUAL, RunningMesh, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.machine import Machine

EDGE_S = 2.0
ANSWERED_S = 2 * EDGE_S
"""A second deadline after the first one would take as long."""


@pytest.fixture(scope="module")
def between(tmp_path_factory) -> Iterator[tuple[RunningMesh, Obstacle]]:
    """The shop, with an obstacle between order and product."""
    directory: Path = tmp_path_factory.mktemp("sick")
    config = yaml.safe_load(SHOP.read_text("utf-8"))
    with Obstacle() as obstacle:
        url = f"http://127.0.0.1:{obstacle.port}"
        config["services"]["order"]["environment"] = {"MESH_URL_PRODUCT": url}
        (directory / "mesh.yaml").write_text(yaml.safe_dump(config), "utf-8")
        mesh = RunningMesh(directory, environment=USUAL).up()
        obstacle.target = int(mesh.url("product").rpartition(":")[2])
        try:
            yield mesh, obstacle
        finally:
            mesh.down()


@pytest.mark.parametrize("fault", [name for name in get_args(Fault) if name != "none"])
def test_order_answers_within_its_deadline_and_recovers(between, machine: Machine, fault: Fault):
    mesh, obstacle = between
    assert mesh.order([(LAMP, 1)], key=f"{fault}-before").status in {201, 202}
    seen = obstacle.connections
    obstacle.fault = fault
    try:
        for number in range(4):
            begun_s = time.monotonic()
            answer = mesh.order([(LAMP, 1)], key=f"{fault}-{number}")
            assert machine.since_s(begun_s) < ANSWERED_S
            assert answer.status == 202, answer
            begun_s = time.monotonic()
            assert mesh.ask("order", "GET", f"/orders/{answer.body['id']}").status == 401
            assert machine.since_s(begun_s) < ANSWERED_S / 2
        assert obstacle.connections <= seen + 64
    finally:
        obstacle.fault = "none"
    mesh.idle()  # what was left pending is decided
    eventually(lambda: mesh.order([(LAMP, 1)], key=f"{fault}-after").status == 201, within_s=60)
