"""Nobody heard whether it was done: asked again under the same key, it was done once.

At full scale from the command line: `python -m tests.e2e.test_ambiguous 50`.
"""

from __future__ import annotations

import http.client
import shutil
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from mesh.services import order
from tests.support.running import LAMP, SHOP, RunningMesh

if TYPE_CHECKING:
    from tests.support.running import Answer

HERE = Path(__file__).parent / "mymortal"
AT_ONCE = 50
PATIENCE_S = 40.0
"""A service that dies again and again is started again ever later, after 10 s at most."""

AGAIN_S = 0.1


@dataclass
class Submitted:
    """What the submissions of one key met on their way, and were answered in the end."""

    met: Counter[str] = field(default_factory=Counter)
    answers: list[Answer] = field(default_factory=list)


def mortal_shop(directory: Path) -> RunningMesh:
    """The shop with an order service that dies before it answers; not started."""
    folder = directory / HERE.name
    shutil.copytree(HERE, folder)
    shutil.copytree(Path(order.__file__).parent / "schema", folder / "schema")
    config = yaml.safe_load(SHOP.read_text("utf-8"))
    config["services"]["order"] |= {"module": f"{HERE.name}.order", "restart": "always"}
    (directory / "mesh.yaml").write_text(yaml.safe_dump(config), "utf-8")
    return RunningMesh(directory)


def submit(mesh: RunningMesh, key: str, met: Counter[str]) -> Answer:
    """Send it until it is answered with success, as a client must that does not know."""
    until_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            answer = mesh.order([(LAMP, 1)], key=key)
        except (OSError, http.client.HTTPException) as error:
            met[type(error).__name__] += 1
        else:
            met[str(answer.status)] += 1
            if answer.status < 300:
                return answer
            assert answer.status in {409, 503}, answer
        assert time.monotonic() < until_s, met
        time.sleep(AGAIN_S)


def submitted(mesh: RunningMesh, key: str) -> Submitted:
    """AT_ONCE submissions side by side."""
    found = Submitted()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        sent = [pool.submit(submit, mesh, key, found.met) for _ in range(AT_ONCE)]
        found.answers = [each.result() for each in sent]
    return found


def run(mesh: RunningMesh, keys: int) -> Counter[str]:
    """So many keys, one after another; what the submissions met. The mesh is checked afterwards."""
    mesh.login("alice")
    before = {row["id"] for row in mesh.placed("alice")}
    stock = mesh.ask("product", "GET", f"/products/{LAMP}").body["available"]
    restarts = mesh.services()["order"]["restarts"]
    met: Counter[str] = Counter()
    ids = []
    for number in range(keys):
        found = submitted(mesh, f"ambiguous-{number}")
        met += found.met
        told = {(answer.status, repr(answer.body)) for answer in found.answers}
        assert len(told) == 1, told
        ids.append(found.answers[0].body["id"])
        assert {answer.headers.get("Idempotent-Replayed") for answer in found.answers} == {"true"}
    mesh.idle()
    placed = {row["id"] for row in mesh.placed("alice")} - before
    assert placed == set(ids)
    assert len(ids) == len(set(ids)) == keys
    assert mesh.ask("product", "GET", f"/products/{LAMP}").body["available"] == stock - keys
    assert mesh.services()["order"]["restarts"] - restarts == keys
    return met


def test_fifty_submissions_of_a_key_are_one_order_when_it_died_before_it_answered(tmp_path):
    mesh = mortal_shop(tmp_path).up()
    try:
        met = run(mesh, 5)
    finally:
        mesh.down()
    assert met["201"] + met["202"] == 5 * AT_ONCE


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        shop, count = mortal_shop(Path(folder)).up(), int(sys.argv[1])
        try:
            print(
                f"{AT_ONCE} submissions of each of {count} keys, order killed between commit and"
                f" answer each time: {count} orders, one answer a key; they met"
                f" {dict(run(shop, count))}"
            )
        finally:
            shop.down()
