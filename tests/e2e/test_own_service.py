"""A user's own service, outside the package: it runs, asks, hears and tells like ours."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from tests.support.running import LAMP, RunningMesh, eventually

HERE = Path(__file__).parent / "myshop"
SHOP = Path(__file__).parents[2] / "configs" / "mesh.yaml"


@pytest.fixture
def own(tmp_path: Path):
    shutil.copytree(HERE, tmp_path / "myshop")
    config = yaml.safe_load(SHOP.read_text("utf-8"))
    config["services"]["greeter"] = {
        "module": "myshop.greeter",
        "calls": ["product"],
        "depends_on": {"bus": {"condition": "service_healthy"}},
    }
    (tmp_path / "mesh.yaml").write_text(yaml.safe_dump(config), "utf-8")
    running = RunningMesh(tmp_path)
    running.up()
    try:
        yield running
    finally:
        running.down()


def test_own_service_asks_product_and_hears_of_its_stock(own: RunningMesh):
    assert own.services()["greeter"]["state"] == "ready"
    greeting = own.json("call", "greeter", "greet")["body"]
    assert greeting["text"] == "Hello Ada, a Desk lamp costs 2490 EUR."

    own.restock(LAMP, 7)
    seen = eventually(
        lambda: next(
            (
                row
                for row in own.ask("greeter", "GET", "/seen").body["items"]
                if row["product_id"] == LAMP and row["delta"] == 7
            ),
            None,
        ),
        within_s=60,
    )
    own.idle()
    heard = [
        event
        for event in own.lines("events", "tail", "--no-follow", "-n", "100")
        if event["type"] == "greeter.stock_noticed" and event["data"]["delta"] == 7
    ]
    assert len(heard) == 1
    assert heard[0]["subject"] == seen["product_id"]


def test_service_that_rewrites_its_tables_for_long_is_given_the_time(own: RunningMesh):
    own.down()
    config = yaml.safe_load((own.directory / "mesh.yaml").read_text("utf-8"))
    patience = {"start_period": "3s", "interval": "1s", "retries": 1}
    config["services"]["greeter"]["healthcheck"] = patience
    (own.directory / "mesh.yaml").write_text(yaml.safe_dump(config), "utf-8")
    (own.directory / "myshop" / "schema" / "0002_long.sql").write_text(
        "CREATE TABLE numbers (most INTEGER) STRICT;"
        " INSERT INTO numbers WITH RECURSIVE n (i) AS"
        " (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30000000) SELECT max(i) FROM n;"
    )
    own.up()
    greeter = own.services()["greeter"]
    assert (greeter["state"], greeter["restarts"]) == ("ready", 0)
