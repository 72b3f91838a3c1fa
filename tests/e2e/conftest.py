from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.support.running import RunningMesh, gone

if TYPE_CHECKING:
    from collections.abc import Iterator


SHOP = Path(__file__).parents[2] / "configs" / "mesh.yaml"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/e2e" in str(item.path):
            item.add_marker(pytest.mark.e2e)


@pytest.fixture
def tough(tmp_path: Path) -> Iterator[RunningMesh]:
    """The shop without a limit on crashes, for tests that kill more often than that."""
    config = yaml.safe_load(SHOP.read_text("utf-8"))
    for service in config["services"].values():
        service["restart"] = "always"
    (tmp_path / "mesh.yaml").write_text(yaml.safe_dump(config), "utf-8")
    running = RunningMesh(tmp_path)
    running.up()
    try:
        yield running
    finally:
        running.down()


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[RunningMesh]:
    """The shop, running; afterwards nothing of it may be left."""
    running = RunningMesh(tmp_path)
    running.up()
    pids = [row["pid"] for row in running.services().values()]
    try:
        yield running
    finally:
        running.down()
    assert [pid for pid in pids if not gone(pid)] == []
