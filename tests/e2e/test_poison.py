"""An event that its listener cannot bear: set aside after five tries, told why, applied once mended."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.support.running import LAMP, SHOP, RunningMesh, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SOURCE = '''"""A service that hears of stock; one delivery is too much for it."""

import os

from msgspec import Struct

from mesh.framework import ANYONE, Listener, Operation, Service


class StockChanged(Struct):
    product_id: str
    d_on_hand: int


class Nothing(Struct, forbid_unknown_fields=True):
    pass


class Heard(Struct):
    deltas: list[int]


async def heard(ctx, request: Nothing) -> Heard:
    """Show every delivery it has noted."""
    return Heard(ctx.read.all(int, "SELECT delta FROM heard ORDER BY n LIMIT 100"))


def on_stock_changed(tx, event: StockChanged) -> None:
    """Note a delivery."""
    tx.execute("INSERT INTO heard (delta) VALUES (:delta)", delta=event.d_on_hand)
    if event.d_on_hand == 13:
        {fault}


service = Service(
    name="storekeeper",
    summary="Notes deliveries.",
    operations=(
        Operation("heard", "GET /heard", heard, Nothing, Heard, allow=ANYONE, example=Nothing()),
    ),
    listeners=(Listener("product.stock_changed", on_stock_changed, StockChanged, halt={halt}),),
)
'''
SCHEMA = "CREATE TABLE heard (n INTEGER PRIMARY KEY, delta INTEGER NOT NULL) STRICT;\n"


class Storekeeper(RunningMesh):
    """The shop with a service whose listener has a fault."""

    def write(self, fault: str, *, halt: bool = False) -> None:
        source = SOURCE.replace("{fault}", fault).replace("{halt}", str(halt))
        (self.directory / "yard" / "storekeeper.py").write_text(source, "utf-8")

    def deltas(self) -> list[int]:
        try:
            answer = self.ask("storekeeper", "GET", "/heard", timeout_s=2.0)
        except OSError:  # it is just dying, which is what this is about
            return []
        return [delta for delta in answer.body["deltas"] if delta in {5, 13, 7}]

    def parked(self) -> list[dict]:
        return self.json("events", "parked", "ls")["parked"]


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Storekeeper]:
    yard = tmp_path / "yard"
    (yard / "schema").mkdir(parents=True)
    (yard / "__init__.py").write_text("")
    (yard / "schema" / "0001_heard.sql").write_text(SCHEMA)
    config = yaml.safe_load(SHOP.read_text("utf-8"))
    config["services"]["storekeeper"] = {
        "module": "yard.storekeeper",
        "depends_on": {"bus": {"condition": "service_healthy"}},
    }
    (tmp_path / "mesh.yaml").write_text(yaml.safe_dump(config), "utf-8")
    running = Storekeeper(tmp_path)
    try:
        yield running
    finally:
        running.down()


@pytest.mark.parametrize(
    ("fault", "error_class", "said"),
    [
        ('raise ValueError("thirteen is bad luck")', "ValueError", "thirteen is bad luck"),
        ("os._exit(9)", "Crashed", "exit 9"),
    ],
    ids=["by exception", "by ending the process"],
)
def test_poison_is_parked_after_five_tries_and_applied_once_mended(
    keeper: Storekeeper, fault: str, error_class: str, said: str
):
    keeper.write(fault)
    keeper.up()
    begun_s = time.monotonic()
    for delta in (5, 13, 7):
        assert keeper.restock(LAMP, delta).status == 201
    eventually(lambda: keeper.deltas() == [5, 7], within_s=60.0)
    assert time.monotonic() - begun_s < 60.0

    (row,) = keeper.parked()
    assert (row["service"], row["stream"], row["attempts"]) == ("storekeeper", "product", 5)
    shown = keeper.json("events", "parked", "show", "storekeeper", row["id"])
    assert (shown["error_class"], shown["data"]["d_on_hand"]) == (error_class, 13)
    assert said in shown["error"]
    assert shown["handler"] == "yard.storekeeper.on_stock_changed"
    assert shown["trace_id"]
    assert said in keeper.run("events", "parked", "show", "storekeeper", row["id"]).stdout
    assert keeper.services()["storekeeper"]["state"] == "ready"
    assert keeper.json("wait", "--for", "idle")["detail"]["parked"] == {"storekeeper": 1}
    (lag,) = [
        consumer
        for stream in keeper.json("events", "lag")["streams"]
        if stream["stream"] == "product"
        for consumer in stream["consumers"]
        if consumer["name"] == "storekeeper"
    ]
    assert (lag["lag"], lag["parked"], lag["state"]) == (0, 1, "live")

    keeper.write("pass")
    keeper.run("restart", "storekeeper")
    again = keeper.json("events", "parked", "retry", "storekeeper", row["id"])
    assert again["results"] == [{"id": row["id"], "ok": True, "error": None}]
    assert keeper.deltas() == [5, 7, 13]
    assert keeper.parked() == []


def test_poison_that_fails_again_stays_and_can_be_dropped(keeper: Storekeeper):
    keeper.write('raise ValueError("still bad")')
    keeper.up()
    assert keeper.restock(LAMP, 13).status == 201
    (row,) = eventually(keeper.parked, within_s=60)
    done = keeper.run("events", "parked", "retry", "storekeeper", "--all", exit_code=1)
    assert "ValueError: still bad" in done.stderr
    assert keeper.parked()[0]["attempts"] == 6
    done = keeper.run("events", "parked", "drop", "storekeeper", row["id"], exit_code=2)
    assert "--yes" in done.stderr
    keeper.run("events", "parked", "drop", "storekeeper", row["id"], "--yes")
    assert keeper.parked() == []
    keeper.run("events", "parked", "show", "storekeeper", row["id"], exit_code=2)


def test_halting_listener_stops_its_stream_and_degrades_its_service_until_mended(
    keeper: Storekeeper,
):
    keeper.write('raise ValueError("not over this")', halt=True)
    keeper.up()
    for delta in (5, 13, 7):
        assert keeper.restock(LAMP, delta).status == 201

    def degraded() -> str:
        row = keeper.services()["storekeeper"]
        return row["cause"] if row["state"] == "degraded" else ""

    cause = eventually(degraded, within_s=60)
    assert "product is halted at event" in cause
    assert "ValueError: not over this" in cause
    assert "halted" in keeper.run("events", "lag").stdout
    assert (keeper.deltas(), keeper.parked()) == ([5], [])
    lag = eventually(lambda: keeper.services()["storekeeper"]["lag"], within_s=60)
    assert lag >= 2

    keeper.write("pass", halt=True)
    keeper.run("restart", "storekeeper")
    eventually(lambda: keeper.deltas() == [5, 13, 7], within_s=60)
    assert keeper.services()["storekeeper"]["state"] == "ready"
