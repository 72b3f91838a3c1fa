"""`mesh down` and `mesh restart` as whole commands: side by side, one deadline, the truth, nobody cut.

Run longer from the command line: `python -m tests.e2e.test_stopping RESTARTS`.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.support import family
from tests.support.load import Load, Request, quantiles_ms
from tests.support.running import ADDRESS, LAMP, RunningMesh, eventually, tough_shop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

READY = "echo it is set"
"""Said once a program's traps are set; before that SIGTERM would simply end its shell."""

SLOW = f"trap 'sleep 2; exit 0' TERM; {READY}; while :; do sleep 100 & wait $!; done"
"""Needs two seconds to stop."""

POLITE = f"trap 'exit 0' TERM; {READY}; while :; do sleep 100 & wait $!; done"
"""Ends at SIGTERM."""

STUBBORN = f"trap '' TERM; sh -c 'sleep 1000 & wait' & {READY}; wait"
"""Ignores SIGTERM, as do its child and its grandchild: what is ignored is inherited."""

LEAVER = f"(trap '' TERM; exec sleep 1000) & trap 'exit 0' TERM; {READY}; wait"
"""Ends at SIGTERM, and leaves a member of its group that ignores it."""

RATE = 50.0

ONE_AFTER_THE_OTHER_S = 40.0
"""For twenty slow services."""

USUAL_GRACE_S = 10.0
"""Where a configuration does not say another."""


def shell(script: str, **members: object) -> dict[str, object]:
    """A service that is a shell and listens on no port."""
    command = ["sh", "-c", script.replace("$", "$$")]
    return {"command": command, "healthcheck": {"test": "NONE"}, **members}


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Callable[[dict[str, object]], RunningMesh]]:
    """Runs a configuration of its own; nothing of it may be left when the test is over."""
    made: list[RunningMesh] = []

    def run(services: dict[str, object]) -> RunningMesh:
        config = {"name": "stopping", "services": services}
        (tmp_path / "mesh.yaml").write_text(yaml.safe_dump(config), "utf-8")
        mesh = RunningMesh(tmp_path, environment=family.new_mark())
        made.append(mesh)
        mesh.up()
        for name in services:
            log = tmp_path / "data" / "logs" / f"{name}.log"
            eventually(lambda log=log: log.exists() and "it is set" in log.read_text(), 30.0)
        return mesh

    yield run
    for mesh in made:
        mesh.run("down", "-t", "0")
        assert family.living(mesh.environment[family.MARK]) == set()


def down(mesh: RunningMesh) -> tuple[float, dict[str, str]]:
    """`mesh down`: seconds it took, and what it says of each service; nobody is left then."""
    begun_s = time.monotonic()
    told = mesh.run("down").stdout
    took_s = time.monotonic() - begun_s
    assert family.living(mesh.environment[family.MARK]) == set()
    return took_s, dict(re.findall(r"^(\S+) +(.+)$", told, re.MULTILINE))


def after_s(how: str, word: str) -> float:
    """Seconds in a line of `mesh down`."""
    return float(re.fullmatch(rf"{word} (\d+\.\d) s", how)[1])


def test_twenty_slow_services_stop_side_by_side(running):
    mesh = running({f"slow-{n:02}": shell(SLOW) for n in range(20)})
    took_s, told = down(mesh)
    assert 2.0 <= took_s < ONE_AFTER_THE_OTHER_S / 2
    assert len(told) == 20
    assert all(after_s(how, "graceful") >= 2.0 for how in told.values()), told


def test_two_levels_of_slow_services_take_twice_as_long(running):
    below = {f"below-{n}": shell(SLOW) for n in range(10)}
    above = {f"above-{n}": shell(SLOW, depends_on=[*below]) for n in range(10)}
    took_s, told = down(running(below | above))
    assert 4.0 <= took_s < ONE_AFTER_THE_OTHER_S / 2
    assert len(told) == 20
    assert [name.partition("-")[0] for name in told] == ["above"] * 10 + ["below"] * 10
    assert all(how.startswith("graceful") for how in told.values()), told


def test_service_that_ignores_the_signal_is_killed_with_its_grandchildren(running):
    mesh = running(
        {
            "stubborn": shell(STUBBORN, stop_grace_period="1s"),
            "polite": shell(POLITE),
        }
    )
    mark = mesh.environment[family.MARK]
    sleeping = [pid for pid in family.living(mark) if "sleep 1000" in family.command_line(pid)]
    assert len(sleeping) >= 2
    took_s, told = down(mesh)
    assert took_s >= 1.0
    assert 1.0 <= after_s(told["stubborn"], "killed after") < USUAL_GRACE_S
    assert told["polite"].startswith("graceful")


def test_down_returns_only_when_the_group_of_a_leader_that_left_is_empty(running):
    mesh = running({"leaver": shell(LEAVER, stop_grace_period="1s")})
    took_s, told = down(mesh)
    assert took_s >= 1.0
    assert 1.0 <= after_s(told["leaver"], "killed after") < USUAL_GRACE_S


def orders(mesh: RunningMesh, label: str) -> Callable[[int], Request]:
    """The n-th order, each with a key of its own: a POST, which no client sends twice by itself."""
    url, token = f"{mesh.url('order')}/orders", mesh.login("alice")
    body = {"lines": [{"product_id": LAMP, "quantity": 1}], "ship_to": ADDRESS}
    raw = json.dumps(body).encode()

    def make(number: int) -> Request:
        headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json",
            "Idempotency-Key": f"{label}-{number}",
        }
        return Request("POST", url, raw, headers)

    return make


def restarted(mesh: RunningMesh, times: int, *, fresh: bool) -> Load:
    """`mesh restart order` so many times while orders are placed; what became of them."""
    label = "fresh" if fresh else "kept"
    with Load(orders(mesh, label), rate=RATE, fresh=fresh) as load:
        for _ in range(times):
            mesh.run("restart", "order")
    return load


@pytest.mark.parametrize("fresh", [True, False], ids=["new-connections", "kept-alive"])
def test_restart_under_load_fails_nobody(mesh: RunningMesh, fresh: bool):
    load = restarted(mesh, 5, fresh=fresh)
    assert len(load.sent) > 20
    assert load.failures() == {}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        shop = tough_shop(Path(folder)).up()
        try:
            for fresh in (True, False):
                load = restarted(shop, int(sys.argv[1]), fresh=fresh)
                print(
                    f"{sys.argv[1]} restarts of order under {RATE:.0f} orders/s,"
                    f" {'a new connection each' if fresh else 'connections kept alive'}:"
                    f" {len(load.sent)} sent, failed {dict(load.failures())},"
                    f" {quantiles_ms([one.took_ms for one in load.sent])}"
                )
        finally:
            shop.down()
