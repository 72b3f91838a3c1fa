"""SIGSTOP and SIGKILL under load: seen, mended, and of no concern to anybody else.

Run longer from the command line: `python -m tests.e2e.test_frozen STEADY FAST` (kills of a steady
order, each after it has been ready for longer than its restart is immediate, and kills in quick
succession, which are followed by a backoff).
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mesh.orchestrator.remote import Remote
from mesh.orchestrator.restart import STEADY_S
from tests.support import family
from tests.support.load import Load, Request, quantiles_ms
from tests.support.running import LAMP, RunningMesh, eventually, tough_shop

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.machine import Machine

RATE = 50.0

IN_HAND = 3
"""Requests that a victim may have in its hands when it dies, and that nobody can answer any more."""

SEEN_S = 5.0
"""From SIGSTOP until the watchdog has seen it."""

READY_S = 8.0
"""From SIGSTOP until the successor is ready."""

PATIENCE_S = 30.0
"""With a machine that stands still meanwhile."""

FROZEN_S = 6.0
"""Longer than the watchdog's patience, so that a late look at the beats could mistake them."""


class Observer:
    """Follows transitions, each with when it was told here; knows every state since."""

    def __init__(self, mesh: RunningMesh) -> None:
        self.seen: list[tuple[float, dict[str, object]]] = []
        self._changes = Remote.find(mesh.directory / "data").watch(timeout_s=60.0)
        next(self._changes)
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        with contextlib.suppress(Exception):  # the mesh has gone, or nothing happened for long
            for change in self._changes:
                self.seen.append((time.monotonic(), dict(change)))

    def when(self, name: str, new: str, cause: str, within_s: float) -> float:
        """When this program was seen to become so."""

        def found() -> float | None:
            wanted = (name, new, cause)
            return next(
                (
                    at_s
                    for at_s, one in self.seen
                    if (one["name"], one["new"], one["cause"]) == wanted
                ),
                None,
            )

        return float(eventually(found, within_s))


def lookups(mesh: RunningMesh) -> Load:
    """Reads of product, which asks nobody: an answer of another than the one that is frozen."""
    url = f"{mesh.url('product')}/products/{LAMP}"
    return Load(lambda _: Request("GET", url), rate=RATE, fresh=True)


def pages(mesh: RunningMesh, service: str) -> Load:
    """Requests that only need this one to live, each on a connection of its own."""
    url = f"{mesh.url(service)}/livez"
    return Load(lambda _: Request("GET", url), rate=RATE, fresh=True, most=IN_HAND)


def told(load: Load, begun_s: float, frozen_s: float, mended_s: float) -> None:
    """Latencies before and amid, for the reader of a log: too few for a bound that cannot flake."""
    before = [one.took_ms for one in load.between(begun_s, frozen_s)]
    amid = [one.took_ms for one in load.between(frozen_s, mended_s)]
    print(f"others before: {quantiles_ms(before)}; while it was frozen: {quantiles_ms(amid)}")


@pytest.mark.parametrize("victim", ["order", "bus"])
def test_frozen_program_is_replaced_and_others_do_not_notice(
    mesh: RunningMesh, machine: Machine, victim: str
):
    observer = Observer(mesh)
    begun_s = time.monotonic()
    with lookups(mesh) as load:
        time.sleep(1.0)  # what it is like without
        before = mesh.kill(victim, signal.SIGSTOP)
        frozen_s = time.monotonic()
        seen_s = observer.when(victim, "stopping", "watchdog", PATIENCE_S)
        mended_s = observer.when(victim, "ready", "ready", PATIENCE_S)
    print(f"{victim}: seen after {seen_s - frozen_s:.2f} s, ready {mended_s - frozen_s:.2f} s")
    told(load, begun_s, frozen_s, mended_s)
    assert load.failures() == {}
    assert machine.since_s(frozen_s, seen_s) < SEEN_S
    assert machine.since_s(frozen_s, mended_s) < READY_S
    assert mesh.services()[victim]["pid"] != before
    assert {one["name"] for _, one in observer.seen} == {victim}
    assert mesh.order([(LAMP, 1)], key="after").body["status"] == "reserved"


@contextlib.contextmanager
def stopped(pids: list[int]) -> Iterator[None]:
    """These processes, the first of them first, suspended and continued."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("who", ["supervisor", "everybody"])
def test_nobody_is_restarted_because_the_supervisor_was_frozen(tmp_path: Path, who: str):
    mesh = RunningMesh(tmp_path, environment=family.new_mark()).up()
    try:
        before = {name: row["pid"] for name, row in mesh.services().items()}
        supervisor = mesh.supervisor()
        frozen = [supervisor]
        if who == "everybody":
            frozen += sorted(family.living(mesh.environment[family.MARK]) - {supervisor})
        with stopped(frozen):
            until_s = time.monotonic() + FROZEN_S
            while time.monotonic() < until_s:
                if who == "supervisor":
                    assert mesh.ask("product", "GET", f"/products/{LAMP}").status == 200
                time.sleep(0.05)
        time.sleep(2.0)  # two beats: whoever is taken for frozen has been aborted by then
        after = mesh.services()
        assert {name: row["pid"] for name, row in after.items()} == before
        assert {row["state"] for row in after.values()} == {"ready"}
        assert {row["restarts"] for row in after.values()} == {0}
        assert mesh.order([(LAMP, 1)], key="after").body["status"] == "reserved"
    finally:
        mesh.down()


def back_ms(mesh: RunningMesh, load: Load) -> float:
    """Kill order under load; from the kill to the next good answer of a request due after it."""
    answered = len(load.sent)
    eventually(lambda: len(load.sent) > answered + 5, PATIENCE_S)
    pid = int(mesh.services()["order"]["pid"])
    killed_s = time.monotonic()
    os.kill(pid, signal.SIGKILL)

    def next_s() -> float | None:
        return min(
            (one.done_s for one in [*load.sent] if one.good and one.due_s > killed_s), default=None
        )

    return (float(eventually(next_s, PATIENCE_S)) - killed_s) * 1e3


def killed(mesh: RunningMesh, times: int, wait_s: float) -> tuple[Load, list[float]]:
    """Order killed so many times under load, `wait_s` after it was ready again."""
    took_ms = []
    with pages(mesh, "order") as load:
        for _ in range(times):
            mesh.run("wait", "order")
            time.sleep(wait_s)
            took_ms.append(back_ms(mesh, load))
    return load, took_ms


def test_kill_under_load_refuses_nobody(tough: RunningMesh):
    load, took_ms = killed(tough, 5, 0.0)
    print("kill of order to its next answer, backoff included:", quantiles_ms(took_ms))
    assert load.fates()["refused"] == 0
    assert [fate for fate in load.failures() if fate.isdecimal()] == []
    assert sum(load.failures().values()) <= 5 * IN_HAND


def main(steady: int, fast: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        mesh = tough_shop(Path(folder)).up()
        try:
            for times, wait_s, what in (
                (steady, STEADY_S + 0.5, "steady (restarted at once)"),
                (fast, 0.0, "in quick succession (backoff included)"),
            ):
                load, took_ms = killed(mesh, times, wait_s)
                print(
                    f"{times} kills of order {what}, {RATE:.0f} new connections a second:"
                    f" next answer after {quantiles_ms(took_ms)};"
                    f" {load.fates()['refused']} of {len(load.sent)} refused,"
                    f" failed {dict(load.failures())}",
                    flush=True,
                )
        finally:
            mesh.down()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
