"""A damaged database: its service stops for good, says which backup there is, and comes back by it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.running import LAMP, eventually

if TYPE_CHECKING:
    from tests.support.running import RunningMesh

PAGE_BYTES = 4096


def test_damaged_database_is_given_up_with_the_newest_backup_named(mesh: RunningMesh):
    order = mesh.order([(LAMP, 1)], key="kept").body
    mesh.run("backup", "monday")
    mesh.run("stop", "order")
    file = mesh.directory / "data" / "order" / "order.db"
    whole = file.read_bytes()
    file.write_bytes(whole[:PAGE_BYTES] + b"\xa5" * (len(whole) - PAGE_BYTES))
    mesh.run("start", "order")
    mesh.run("wait", "order", exit_code=5)

    row = mesh.services()["order"]
    assert (row["state"], row["cause"], row["restarts"]) == ("failed", "exit 78", 0)
    last = mesh.lines("logs", "order", "-n", "1")[0]
    assert "`mesh restore monday` brings back the newest backup" in last["hint"]
    assert mesh.services()["product"]["state"] == "ready"

    mesh.run("restore", "monday")
    mesh.run("wait", "order")
    shown = mesh.ask("order", "GET", f"/orders/{order['id']}", token=mesh.login("alice"))
    assert (shown.status, shown.body["id"]) == (200, order["id"])


def test_bus_whose_file_of_guests_is_damaged_is_given_up_with_the_newest_backup_named(
    mesh: RunningMesh,
):
    """Its log is made anew from the outboxes; what it keeps for others is nowhere else."""
    mesh.run("backup", "monday")
    mesh.run("stop", "bus")
    file = mesh.directory / "data" / "bus" / "hosted.db"
    whole = file.read_bytes()
    file.write_bytes(whole[:PAGE_BYTES] + b"\xa5" * (len(whole) - PAGE_BYTES))
    mesh.run("start", "bus")
    row = eventually(lambda: (found := mesh.services()["bus"])["state"] == "failed" and found, 60)
    assert (row["cause"], row["restarts"]) == ("exit 78", 0)
    last = mesh.lines("logs", "bus", "-n", "1")[0]
    assert str(file) in last["message"]
    assert "`mesh restore monday` brings back the newest backup" in last["hint"]
    mesh.run("restore", "monday")
    mesh.run("wait", "bus")
