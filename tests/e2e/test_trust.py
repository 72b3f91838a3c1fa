"""The running shop's bus believes nobody who only reaches its sockets."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from mesh.errors import Forbidden
from tests.buses.support import FileOutbox, connected, until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.running import RunningMesh


def test_bus_of_a_running_mesh_takes_and_tells_nothing_without_a_token(
    mesh: RunningMesh, tmp_path: Path
):
    async def intrude() -> None:
        outbox = FileOutbox(tmp_path / "forged.db", "order")
        outbox.tell(b'{"order_id":"ord_forged"}')
        async with connected(f"zmq://{mesh.runtime_directory() / 'bus'}", "order") as wire:
            wire.relay(outbox)
            await until(lambda: wire.state.startswith("fenced: AUTH"))
            with pytest.raises(Forbidden):
                await wire.heads(timeout_s=5.0)

    asyncio.run(intrude())
    assert mesh.services()["bus"]["state"] == "ready"
    told = mesh.lines("events", "tail", "--no-follow", "-n", "1000")
    assert told, "the operator may read"
    assert not any(event["subject"] == "ord_forged" for event in told)
