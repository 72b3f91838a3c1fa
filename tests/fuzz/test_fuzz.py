"""Nothing that arrives at an endpoint stops the bus, changes its log or fills its memory."""

from __future__ import annotations

import os

import pytest

from tests.fuzz.attack import attack
from tests.fuzz.verdict import wrong

FRAMES = int(os.environ.get("MESH_FUZZ_FRAMES", "10000"))

pytestmark = [pytest.mark.e2e, pytest.mark.campaign]


@pytest.mark.timeout(300)
async def test_bus_serves_on_while_every_endpoint_is_fuzzed(tmp_path):
    found = await attack(tmp_path, FRAMES)
    assert not wrong(found)
    assert found.sent == 3 * FRAMES
    assert found.refused > FRAMES / 2
