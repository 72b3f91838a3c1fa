"""Backups at one cut under load, each brought back elsewhere; restores; old files put back by hand."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import shutil
import signal
import sqlite3
import threading
import time
from typing import TYPE_CHECKING, Self

import pytest

from mesh import snapshot
from mesh.buses.contract import ORIGIN, Event
from mesh.buses.zmq.protocol.lineage import extends, intact
from mesh.database import rows
from mesh.errors import Conflict
from mesh.orchestrator.remote import Remote
from mesh.services.order.service import service as order_service
from mesh.services.product.service import service as product_service
from tests.services.order.at_rest import wrong
from tests.support.running import COMMAND_S, LAMP, RunningMesh, eventually

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from mesh.framework import Service

BACKUPS = int(os.environ.get("MESH_TEST_BACKUPS", "3"))
EVERY_S = 1.0
CLIENTS = 4
DATABASES = ("auth", "user", "product", "order", "hosted")

COLUMNS = (
    "epoch, seq, prev_epoch, prev_hash, hash, id, type, key, ts_ms, trace, body FROM outbox"
    " ORDER BY seq"
)


def assert_chain_is_whole(file: Path, stream: str) -> int:
    """Contiguous from 1, every hash right; returns how many events it holds."""
    with contextlib.closing(sqlite3.connect(file)) as connection:
        rows = connection.execute(f"SELECT '{stream}', {COLUMNS}").fetchall()
        head = connection.execute("SELECT epoch, seq, hash FROM mlp_head").fetchone()
    before = ORIGIN
    for row in rows:
        event = Event(*row)
        assert extends(event, before), (stream, event.seq)
        assert intact(event), (stream, event.seq)
        before = event.link
    assert (before.epoch, before.seq, before.hash) == head
    return len(rows)


class AtRest:
    """A service's file that nobody has open, for who asks a running one's database."""

    def __init__(self, service: Service, file: Path) -> None:
        self.service = service
        self.file = file
        self.database = self.read = self

    def all(self, shape: type, sql: str) -> list:
        return rows(self.file, shape, sql)


def assert_all_is_well_at_rest(data: Path) -> None:
    """Every promise of order and product, alone and together; nothing has parted."""
    files = {name: data / name / f"{name}.db" for name in ("auth", "user", "product", "order")}
    for name, file in files.items():
        snapshot.check(file)
        assert assert_chain_is_whole(file, name) > 0
        assert rows(file, int, "SELECT count(*) FROM mlp_diverged") == [0]
    product = AtRest(product_service, files["product"])
    assert wrong(AtRest(order_service, files["order"]), product) == []


class Load:
    """Customers who order lamps until told to stop."""

    def __init__(self, mesh: RunningMesh) -> None:
        self._mesh = mesh
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(CLIENTS)]
        self.answers: list[int] = []

    def __enter__(self) -> Self:
        self._mesh.login("alice")
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _run(self, client: int) -> None:
        n = 0
        while not self._ended.is_set():
            n += 1
            try:
                answer = self._mesh.order([(LAMP, 1)], key=f"{client}-{n}")
            except (OSError, http.client.HTTPException):
                continue
            self.answers.append(answer.status)


def test_backups_each_second_under_load_are_whole_and_come_back_elsewhere(
    mesh: RunningMesh, tmp_path_factory: pytest.TempPathFactory
):
    manifests = []
    with Load(mesh) as load:
        for n in range(BACKUPS):
            begun = time.monotonic()
            manifests.append(mesh.json("backup", f"b{n}"))
            time.sleep(max(0.0, EVERY_S - (time.monotonic() - begun)))
    assert set(load.answers) == {201}, "nobody was refused meanwhile"
    assert [part["name"] for part in manifests[0]["parts"]] == list(DATABASES)
    for n, manifest in enumerate(manifests):
        heads = {one["name"]: one["head"]["seq"] for p in manifest["parts"] for one in p["streams"]}
        for part in manifest["parts"]:
            for cursor in part["cursors"]:
                assert cursor["seq"] <= heads[cursor["stream"]], "heard before it was told"
        elsewhere = tmp_path_factory.mktemp(f"elsewhere{n}")
        backups = elsewhere / "data" / "backups"
        backups.mkdir(parents=True)
        shutil.copytree(mesh.directory / "data" / "backups" / f"b{n}", backups / f"b{n}")
        other = RunningMesh(elsewhere)
        other.run("restore", f"b{n}")
        other.up()
        try:
            other.idle()
        finally:
            other.down()
        assert_all_is_well_at_rest(elsewhere / "data")
        orders = sqlite3.connect(elsewhere / "data" / "order" / "order.db")
        with contextlib.closing(orders):
            assert orders.execute("SELECT count(*) FROM orders").fetchone()[0] > 0


def test_backups_and_verifies_at_once_disturb_neither_each_other_nor_the_shop(mesh: RunningMesh):
    with Load(mesh) as load:
        eventually(lambda: load.answers, within_s=60)
        backups = [mesh.start("backup", "one") for _ in range(3)]
        verifies = [mesh.start("verify") for _ in range(3)]
        said = [process.communicate(timeout=COMMAND_S)[1] for process in backups]
        judged = [process.communicate(timeout=COMMAND_S)[1] for process in verifies]
    assert [process.returncode for process in verifies] == [0, 0, 0], judged
    assert sorted(process.returncode for process in backups) == [0, 1, 1], said
    assert sum("[backup-exists]" in each for each in said) == 2, said
    assert set(load.answers) == {201}, "nobody was refused meanwhile"
    assert {row["restarts"] for row in mesh.services().values()} == {0}
    mesh.run("restore", "one")


def test_whole_mesh_goes_back_to_the_backup_and_on_from_there(mesh: RunningMesh):
    kept = mesh.order([(LAMP, 1)], key="kept").body["id"]
    mesh.run("events", "publish", "demo.said", "-d", "1")
    mesh.idle()
    mesh.run("backup", "before")
    gone = mesh.order([(LAMP, 1)], key="gone").body["id"]
    mesh.run("restore", "before")
    mesh.run("wait")
    token = mesh.login("alice")
    assert mesh.ask("order", "GET", f"/orders/{kept}", token=token).status == 200
    assert mesh.ask("order", "GET", f"/orders/{gone}", token=token).status == 404
    mesh.order([(LAMP, 1)], key="after")
    mesh.run("events", "publish", "demo.said", "-d", "2")
    mesh.idle()
    events = mesh.lines("events", "tail", "--no-follow", "-n", "1000")
    for stream in ("order", "product", "cli"):
        mine = [event for event in events if event["stream"] == stream]
        assert [int(event["sequence"]) for event in mine] == list(range(1, len(mine) + 1))
        assert mine[-1]["epoch"] == 2, mine
    assert {row["state"] for row in mesh.services().values()} == {"ready"}
    again = mesh.run("backup", "before", exit_code=1)
    assert "backup-exists" in again.stderr


def test_one_service_goes_back_and_those_who_heard_more_are_told(mesh: RunningMesh):
    product = mesh.product(on_hand=0)
    mesh.idle()
    mesh.run("backup", "before")
    mesh.restock(product, 5)
    mesh.idle()
    heard = _cursor(mesh, "order", "product")
    done = mesh.run("restore", "before", "product")
    assert "mesh events diverged" in done.stderr
    mesh.run("wait")
    mesh.restock(product, 7)
    mesh.idle()
    assert _cursor(mesh, "order", "product")[0] == 2
    shown = mesh.ask("product", "GET", f"/products/{product}").body
    assert shown["on_hand"] == 7
    mesh.down()
    with contextlib.closing(sqlite3.connect(mesh.directory / "data/order/order.db")) as own:
        ((stream, first, last, epoch),) = own.execute(
            "SELECT stream, from_seq, to_seq, new_epoch FROM mlp_diverged"
        ).fetchall()
    assert (stream, last, epoch) == ("product", heard[1], 2)
    assert first <= last


def _cursor(mesh: RunningMesh, service: str, stream: str) -> tuple[int, int]:
    file = mesh.directory / "data" / service / f"{service}.db"
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as own:
        row = own.execute("SELECT epoch, seq FROM mlp_cursor WHERE stream = ?", (stream,))
        epoch, seq = row.fetchone()
    return epoch, seq


def test_old_file_put_back_by_hand_is_fenced_says_so_and_is_adopted(mesh: RunningMesh):
    mesh.order([(LAMP, 1)], key="first")
    mesh.idle()
    mesh.run("backup", "old")
    for n in range(3):
        mesh.order([(LAMP, 1)], key=f"later-{n}")
    mesh.idle()
    mesh.run("stop", "order")
    folder = mesh.directory / "data" / "order"
    shutil.copy(mesh.directory / "data" / "backups" / "old" / "order.db", folder / "order.db")
    for suffix in ("-wal", "-shm"):
        (folder / f"order.db{suffix}").unlink(missing_ok=True)
    mesh.run("start", "order")

    def degraded() -> dict | None:
        row = mesh.services()["order"]
        return row if row["state"] == "degraded" else None

    row = eventually(degraded, within_s=30)
    assert "BEHIND" in row["cause"]
    assert "mesh restore --adopt order" in row["cause"]
    assert mesh.order([(LAMP, 1)], key="served").status == 201, "it goes on serving"
    mesh.run("restore", "--adopt", "order")
    mesh.run("wait", "order")
    mesh.order([(LAMP, 1)], key="well")
    mesh.idle()
    assert mesh.services()["order"]["state"] == "ready"
    events = mesh.lines("events", "tail", "--no-follow", "-n", "1000", "--stream", "order")
    assert {event["epoch"] for event in events} == {1, 2}
    assert [int(event["sequence"]) for event in events] == list(range(1, len(events) + 1))


def test_log_may_be_deleted_at_any_moment(mesh: RunningMesh):
    mesh.order([(LAMP, 1)], key="first")
    mesh.idle()
    before = mesh.lines("events", "tail", "--no-follow", "-n", "1000")
    for file in (mesh.directory / "data" / "bus").glob("bus.db*"):
        file.unlink()
    mesh.kill("bus")
    mesh.run("wait", "bus")
    mesh.order([(LAMP, 1)], key="second")
    mesh.idle()
    after = mesh.lines("events", "tail", "--no-follow", "-n", "1000")
    ids = {event["id"] for event in after}
    assert len(ids) == len(after) == len(before) + 3
    assert {event["id"] for event in before} <= ids


def test_backup_and_restore_with_nothing_running_and_a_crash_before(mesh: RunningMesh):
    order = mesh.order([(LAMP, 1)], key="kept").body
    os.kill(mesh.supervisor(), signal.SIGKILL)
    eventually(lambda: mesh.run("ps", exit_code=None).returncode == 3, within_s=30)
    mesh.run("backup", "cold")
    listed = mesh.json("backup")
    assert [each["name"] for each in listed["backups"]] == ["cold"]
    for name in ("auth", "user", "product", "order"):
        shutil.rmtree(mesh.directory / "data" / name)
    mesh.run("restore", "cold")
    mesh.up()
    shown = mesh.ask("order", "GET", f"/orders/{order['id']}", token=mesh.login("alice"))
    assert shown.body == order
    mesh.idle()


HARMS = {
    "a byte": lambda folder: (folder / "order.db").write_bytes(
        (folder / "order.db").read_bytes()[:-1] + b"\xff"
    ),
    "a file": lambda folder: (folder / "order.db").unlink(),
    "the manifest": lambda folder: (folder / "manifest.json").write_text("{"),
}


def test_damaged_backup_is_refused_and_nothing_has_happened(mesh: RunningMesh):
    mesh.order([(LAMP, 1)], key="kept")
    mesh.run("backup", "good")
    backups = mesh.directory / "data" / "backups"
    before = mesh.services()["order"]["pid"]
    for n, harm in enumerate(HARMS.values()):
        shutil.copytree(backups / "good", backups / f"bad{n}")
        harm(backups / f"bad{n}")
        done = mesh.run("restore", f"bad{n}", exit_code=1)
        assert "error:" in done.stderr
        assert "Traceback" not in done.stderr
    assert mesh.services()["order"]["pid"] == before
    assert json.loads((backups / "good" / "manifest.json").read_text())["project"] == "shop"


def test_restore_that_is_killed_can_be_done_again(mesh: RunningMesh):
    order = mesh.order([(LAMP, 1)], key="kept").body
    mesh.idle()
    mesh.run("backup", "good")
    mesh.order([(LAMP, 1)], key="gone")
    mesh.down()
    chance = random.Random(1)
    for _ in range(6):
        process = mesh.start("restore", "good")
        time.sleep(chance.uniform(0.1, 0.8))
        process.kill()
        process.communicate()
    mesh.run("restore", "good")
    mesh.up()
    assert [each["id"] for each in mesh.placed("alice")] == [order["id"]]
    mesh.order([(LAMP, 1)], key="after")
    mesh.idle()
    assert {row["state"] for row in mesh.services().values()} == {"ready"}


def restoring(mesh: RunningMesh, *names: str) -> subprocess.Popen[str]:
    """A restore that has order at rest by now."""
    remote = Remote(mesh.directory / "data")

    def order_is_at_rest() -> bool:
        rows = {str(row["name"]): row for row in remote.status()["services"]}
        return rows["order"]["state"] == "stopped"

    process = mesh.start("restore", "good", *names)
    eventually(order_is_at_rest, COMMAND_S)
    return process


def test_what_is_restored_cannot_be_started_nor_the_mesh_meanwhile(mesh: RunningMesh):
    mesh.run("backup", "good")
    process = restoring(mesh, "order")
    with pytest.raises(Conflict, match=rf"order is being restored \(pid {process.pid}\)"):
        Remote(mesh.directory / "data").start(["order"])
    assert process.wait(COMMAND_S) == 0, process.communicate()
    process.communicate()
    mesh.run("wait", "order")
    kept = mesh.order([(LAMP, 1)], key="after").body["id"]
    mesh.run("restart", "order")
    assert kept in [each["id"] for each in mesh.placed("alice")]

    process = restoring(mesh)
    process.send_signal(signal.SIGSTOP)
    mesh.down()
    assert "a restore replaces the databases here" in mesh.run("up", "-d", exit_code=1).stderr
    process.send_signal(signal.SIGCONT)
    out, err = process.communicate(timeout=COMMAND_S)
    assert process.returncode == 0, (out, err)
    assert "the mesh went down meanwhile" in err
    mesh.up()
    mesh.run("verify")


def test_whoever_ends_a_restore_has_what_it_stopped_started_again(mesh: RunningMesh):
    mesh.run("backup", "good")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL):
        process = restoring(mesh)
        process.send_signal(number)
        out, err = process.communicate(timeout=COMMAND_S)
        assert "Traceback" not in out + err
        mesh.run("wait")
        assert {row["state"] for row in mesh.services().values()} == {"ready"}
    mesh.run("verify")


def test_copies_of_a_backup_that_was_killed_are_gone_with_the_next(mesh: RunningMesh):
    backups = mesh.directory / "data" / "backups"
    process = mesh.start("backup", "killed")
    eventually(lambda: [*backups.glob(".*.part")], COMMAND_S)
    process.kill()
    process.communicate()
    assert [each.name for each in backups.iterdir()] == [".killed.part"]
    mesh.run("backup", "whole")
    assert [each.name for each in backups.iterdir()] == ["whole"]
