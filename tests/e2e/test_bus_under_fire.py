"""The bus loses nothing, whatever is done to it under load; at full scale: `tests.e2e.fire`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.fire import STILL_S, Scale, mesh_of, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.running import RunningMesh

SCALE = Scale(kills=3, deletions=1, stopped_s=2.0, dropped_s=2.0)
WORKED_OFF_PER_S = 1000
"""Far below what a consumer applies; the backlog is worked off beside new events."""


@pytest.fixture
def firing(tmp_path: Path) -> Iterator[RunningMesh]:
    mesh = mesh_of(tmp_path).up()
    try:
        yield mesh
    finally:
        mesh.down()


def test_no_event_is_lost_or_applied_twice_while_bus_log_consumer_and_feed_are_broken(
    firing: RunningMesh,
):
    found = run(firing, SCALE)
    print(found)
    assert found.told > 1000
    assert (found.kills, found.deletions) == (SCALE.kills, SCALE.deletions)
    assert (found.lost, found.twice) == (0, 0)
    assert (found.in_log, found.log_gaps, found.notes) == (found.told, 0, [])
    assert found.settled_s <= STILL_S + found.backlog / WORKED_OFF_PER_S
