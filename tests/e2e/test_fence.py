"""An old file put back by hand: fenced, with the way out; nothing is taken from it silently."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from tests.support.running import LAMP, eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.running import RunningMesh


def test_service_whose_old_file_was_put_back_is_degraded_and_says_what_to_do(
    mesh: RunningMesh, tmp_path: Path
):
    file, kept = mesh.directory / "data" / "product" / "product.db", tmp_path / "old.db"
    mesh.idle()
    mesh.run("stop", "product")
    shutil.copyfile(file, kept)
    mesh.run("start", "product")
    mesh.run("wait", "product")
    assert mesh.restock(LAMP, 3).status == 201
    mesh.idle()
    mesh.run("stop", "product")
    shutil.copyfile(kept, file)
    mesh.run("start", "product")

    def degraded() -> str:
        row = mesh.services()["product"]
        return row["cause"] if row["state"] == "degraded" else ""

    cause = eventually(degraded, within_s=30)
    assert "fenced" in cause
    assert "BEHIND" in cause
    assert "mesh restore --adopt" in cause
    assert mesh.ask("product", "GET", "/products").status == 200, "it answers all the same"
