"""A damaged database: its service stops for good, says which backup there is, and comes back by it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.running import LAMP

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
