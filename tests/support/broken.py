"""The shop with one service broken on purpose: what a verdict must notice."""

from __future__ import annotations

import shutil
from pathlib import Path

import yaml

import mesh.services
from tests.support.running import SHOP, USUAL, RunningMesh

HERE = Path(__file__).parents[1] / "e2e" / "broken"
SERVICES = Path(mesh.services.__file__).parent

RUSH = """
from mesh.exercise import Scenario, Visit

HOME = {"name": "V", "line1": "1", "city": "H", "postcode": "2", "country": "DE"}

async def rush(visit: Visit) -> None:
    \"\"\"Everybody wants the same, of which there is little.\"\"\"
    page = await visit.ask("product.list", page_size=20)
    (rare,) = [item["id"] for item in page["items"] if item["sku"] == "CHAIR-1"]
    await visit.ask(
        "order.create", lines=[{"product_id": rare, "quantity": 1}], ship_to=HOME,
        on_shortage="reject",
    )

scenarios = (Scenario("rush", rush),)
"""


def shop_with(directory: Path, build: str) -> RunningMesh:
    """The shop, not started, with `tracked` or `hasty` tracker, `silent` order or `greedy` product."""
    shutil.copytree(HERE, directory / "broken")
    config = yaml.safe_load(SHOP.read_text("utf-8"))
    services = config["services"]
    for service in services.values():
        service["restart"] = "always"
    if build in {"tracked", "hasty"}:
        services["tracker"] = {"module": f"broken.{build}.tracker", "calls": ["auth"]}
    else:
        name = {"silent": "order", "greedy": "product"}[build]
        services[name]["module"] = f"broken.{build}.{name}"
        schema = directory / "broken" / build / "schema"
        shutil.copytree(SERVICES / name / "schema", schema)
        if build == "greedy":
            first = schema / "0001_product.sql"
            text = first.read_text("utf-8").replace(",\n    CHECK (reserved <= on_hand)", "")
            first.write_text(text, "utf-8")
            (directory / "rush.py").write_text(RUSH, "utf-8")
            config["exercise"] = {"scenarios": "rush.py"}
    (directory / "mesh.yaml").write_text(yaml.safe_dump(config), "utf-8")
    return RunningMesh(directory, environment=USUAL)
