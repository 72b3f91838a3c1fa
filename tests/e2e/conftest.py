from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.machine import Machine
from tests.support.running import RunningMesh, gone, tough_shop

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/e2e" in str(item.path):
            item.add_marker(pytest.mark.e2e)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """Knows when this machine stood still, which counts for nobody's time."""
    with Machine(tmp_path) as found:
        yield found


@pytest.fixture
def tough(tmp_path: Path) -> Iterator[RunningMesh]:
    """The shop without a limit on crashes, for tests that kill more often than that."""
    running = tough_shop(tmp_path).up()
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
