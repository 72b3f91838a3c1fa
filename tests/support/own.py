"""A mesh with a service of one's own outside the package: `greeter`, which asks product."""

from __future__ import annotations

import shutil
from pathlib import Path

import yaml

from tests.support.running import LAMP, RunningMesh

HERE = Path(__file__).parents[1] / "e2e" / "myshop"


def greeter_mesh(directory: Path, **more: object) -> RunningMesh:
    """Not started yet; `more` are further services as the file has them."""
    shutil.copytree(HERE, directory / "myshop")
    lamp = {"id": LAMP, "sku": "LAMP-1", "name": "Desk lamp", "price_minor": 2490, "on_hand": 10}
    config = {
        "name": "own",
        "bus": "zmq://",
        "services": {
            "product": {
                "module": "mesh.services.product",
                "seed": {"products": [{**lamp, "currency": "EUR"}]},
            },
            "greeter": {"module": "myshop.greeter", "calls": ["product"]},
            **more,
        },
    }
    (directory / "mesh.yaml").write_text(yaml.safe_dump(config), "utf-8")
    return RunningMesh(directory)
