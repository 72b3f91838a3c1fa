"""`mesh chaos`: what it breaks is broken, said by `ps`, and whole again by itself."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from mesh.orchestrator.remote import Remote
from tests.support.running import LAMP, eventually, gone

if TYPE_CHECKING:
    from tests.support.running import RunningMesh


def faults(mesh: RunningMesh) -> list[tuple[str, str]]:
    return [(row["target"], row["kind"]) for row in mesh.json("chaos", "ls")["faults"]]


def test_errors_are_marked_health_is_spared_and_it_ends_by_itself(mesh: RunningMesh):
    mesh.run("chaos", "error", "product", "--for", "60")
    answer = mesh.ask("product", "GET", "/products")
    assert (answer.status, answer.body["code"]) == (503, "fault-injected")
    assert mesh.ask("product", "GET", "/readyz").status == 200
    assert mesh.services()["product"]["state"] == "ready"
    assert faults(mesh) == [("product", "error")]
    assert "error" in mesh.run("ps").stdout
    mesh.run("chaos", "clear")
    mesh.run("chaos", "error", "product", "--for", "1")
    eventually(lambda: mesh.ask("product", "GET", "/products").status == 200, within_s=60)
    eventually(lambda: faults(mesh) == [], within_s=60)


def listed_s(mesh: RunningMesh) -> float:
    """Seconds that a list of products takes."""
    begun_s = time.monotonic()
    assert mesh.ask("product", "GET", "/products").status == 200
    return time.monotonic() - begun_s


def test_latency_delays_a_share_and_clear_ends_it(mesh: RunningMesh):
    mesh.run("chaos", "latency", "product", "--ms", "1500", "--for", "60", "--seed", "1")
    assert listed_s(mesh) >= 1.5
    mesh.run("chaos", "clear", "product")
    assert any(listed_s(mesh) < 1.5 for _ in range(5)), "of a few: the machine may be busy"
    assert faults(mesh) == []


def _stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0] == "T"


def test_pause_stops_the_process_and_continues_it(mesh: RunningMesh):
    pid = mesh.services()["order"]["pid"]
    remote = Remote.find(mesh.directory / "data")

    def seen() -> bool:
        rows = remote.status()["services"]
        told = [(row["name"], each["kind"]) for row in rows for each in row["faults"]]
        return _stopped(pid) and told == [("order", "pause")]

    command = mesh.start("chaos", "pause", "order", "--for", "1.5")
    eventually(seen, within_s=60)  # asked without a command, which may take longer than the pause
    command.communicate(timeout=60)
    assert command.returncode == 0
    eventually(lambda: not _stopped(pid), within_s=60)
    assert mesh.order([(LAMP, 1)], key="after").status == 201
    assert mesh.services()["order"]["pid"] == pid


def test_longer_pause_is_ended_by_the_watchdog(mesh: RunningMesh):
    pid = mesh.services()["order"]["pid"]
    mesh.run("chaos", "pause", "order", "--for", "60")
    eventually(lambda: gone(pid), within_s=30)
    mesh.run("wait", "order")
    assert mesh.order([(LAMP, 1)], key="after").status == 201
    assert faults(mesh) == []


def test_kill_is_an_accident_that_counts(mesh: RunningMesh):
    pid = mesh.services()["order"]["pid"]
    mesh.run("chaos", "kill", "order")
    eventually(lambda: gone(pid), within_s=60)
    eventually(lambda: mesh.services()["order"]["restarts"] == 1, within_s=60)
    assert mesh.order([(LAMP, 1)], key="after").status == 201


def test_events_arrive_although_the_feed_is_lost(mesh: RunningMesh):
    for target in ("order", "bus"):
        mesh.run("chaos", "drop", target, "--for", "60")
    product = mesh.product(on_hand=0)
    order = mesh.order([(product, 1)], key="waits").body
    assert order["status"] == "backordered"
    mesh.restock(product, 1)
    token = mesh.login("alice")
    eventually(
        lambda: (
            mesh.ask("order", "GET", f"/orders/{order['id']}", token=token).body["status"]
            == "reserved"
        ),
        within_s=30,
    )
    assert sorted(faults(mesh)) == [("bus", "drop"), ("order", "drop")]


def test_events_that_come_twice_and_out_of_order_have_one_effect(mesh: RunningMesh):
    for target in ("order", "bus"):
        for kind in ("dup", "reorder"):
            mesh.run("chaos", kind, target, "--for", "60", "--rate", "0.5", "--seed", "3")
    assert sorted(faults(mesh)) == [
        (target, kind) for target in ("bus", "order") for kind in ("dup", "reorder")
    ]
    mesh.run("exercise", "fulfil", "--rate", "15", "--duration", "5", "--seed", "2")
    verdict = mesh.json("verify")
    assert verdict["ok"], [check for check in verdict["checks"] if not check["ok"]]
    heard = [row for row in verdict["checks"] if row["name"] == "events-accounted-for"]
    assert sum(row["checked"] for row in heard if row["service"] == "order") > 50
    mesh.run("chaos", "clear")
    assert faults(mesh) == []


def test_down_ends_what_is_paused(mesh: RunningMesh):
    pid = mesh.services()["order"]["pid"]
    mesh.run("chaos", "pause", "order", "--for", "60")
    done = mesh.run("down")
    assert "order    graceful" in done.stdout + done.stderr
    assert gone(pid)


def test_what_cannot_be_broken_is_said(mesh: RunningMesh):
    done = mesh.run("chaos", "latency", "bus", exit_code=2)
    assert "mesh chaos drop bus" in done.stderr
    mesh.run("chaos", "pause", "ordr", exit_code=2)
    mesh.run("stop", "order")
    done = mesh.run("chaos", "pause", "order", exit_code=1)
    assert "no-process" in done.stderr
