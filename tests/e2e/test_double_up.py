"""Many `mesh up -d` in one directory: one of them wins, and the others know by whom and are gone.

How soon a loser is gone after its lock failed is measured from outside, without a word from it:
the test holds the lock itself, the kernel (inotify) says when the lock's file is opened, which is
just before the attempt, and a pidfd says when the command has ended. So the time told contains the
attempt and the ends of both processes of the command; only this test's own waking up is missing at
its beginning. That is done for one loser after another: amid a storm of them a loser waits for a
processor, and its time would be the storm's. Of those the wall time of the whole command is told.

Run longer from the command line: `python -m tests.e2e.test_double_up ROUNDS AT_ONCE`.
"""

from __future__ import annotations

import os
import re
import select
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mesh.orchestrator import state
from tests.support import family
from tests.support.load import quantiles_ms
from tests.support.opened import Opened
from tests.support.running import RunningMesh, eventually

if TYPE_CHECKING:
    from subprocess import Popen

LEAVES_MS = 50.0
"""From a failed lock to the end of the command, where nobody else has the processor."""

END_S = 60.0
"""For a whole storm of commands on a busy machine."""


@dataclass
class End:
    """How one command ended."""

    code: int
    told: str
    took_ms: float


def _ended(process: Popen[str], begun_s: float, ends: list[End]) -> None:
    _, err = process.communicate(timeout=END_S)
    ends.append(End(process.returncode, err, (time.monotonic() - begun_s) * 1e3))


def storm(mesh: RunningMesh, ways: list[list[str]]) -> list[End]:
    """`mesh … up -d` for each of these options, all at once; how each ended."""
    ends: list[End] = []
    waiters = []
    for way in ways:
        begun_s = time.monotonic()
        arguments = (mesh.start(*way, "up", "-d"), begun_s, ends)
        waiters.append(threading.Thread(target=_ended, args=arguments))
        waiters[-1].start()
    for waiter in waiters:
        waiter.join()
    return ends


def play(mesh: RunningMesh, ways: list[list[str]]) -> tuple[list[float], list[float]]:
    """One round: exactly one wins. Milliseconds of the winner's whole command, and of the losers'."""
    ends = storm(mesh, ways)
    assert sorted(end.code for end in ends) == [0] + [1] * (len(ways) - 1), ends
    supervisor = mesh.supervisor()
    for end in ends:
        if end.code:
            assert re.search(rf"a mesh runs here already \(pid {supervisor}\)", end.told), end.told
            assert "hint: mesh start" in end.told
            assert "Traceback" not in end.told
    mark = mesh.environment[family.MARK]
    assert len(family.living(mark)) == 7  # no loser left anything beside the winner's
    assert {row["state"] for row in mesh.services().values()} == {"ready"}
    mesh.down()
    eventually(lambda: not family.living(mark), within_s=60)
    return [end.took_ms for end in ends if end.code == 0], [end.took_ms for end in ends if end.code]


def leave_ms(mesh: RunningMesh) -> float:
    """From one command's failed lock to its end; the lock is held here meanwhile."""
    with Opened(state.lock_path(mesh.directory / "data")) as opened:
        process = mesh.start("up", "-d")
        descriptor = os.pidfd_open(process.pid)
        try:
            failed_s = opened.first_s(END_S)
            assert select.select([descriptor], [], [], END_S)[0]
            took_ms = (time.monotonic() - failed_s) * 1e3
        finally:
            os.close(descriptor)
        _, err = process.communicate()
    assert process.returncode == 1, err
    assert f"a mesh runs here already (pid {os.getpid()})" in err
    return took_ms


def left_after(directory: Path, times: int) -> list[float]:
    """`leave_ms` so many times, and nothing of a loser stays."""
    mesh = RunningMesh(directory, environment=family.new_mark())
    (directory / "data" / "run").mkdir(parents=True)
    with state.locked(directory / "data"):
        took_ms = [leave_ms(mesh) for _ in range(times)]
    assert family.living(mesh.environment[family.MARK]) == set()
    return took_ms


def test_one_of_many_wins_and_the_others_name_it(tmp_path: Path):
    mesh = RunningMesh(tmp_path, environment=family.new_mark())
    for _ in range(2):
        play(mesh, [[]] * 20)


def test_one_wins_whatever_the_directory_is_called(tmp_path: Path):
    real, link = tmp_path / "real", tmp_path / "link"
    (real / "data").mkdir(parents=True)
    link.symlink_to(real)
    mesh = RunningMesh(real, environment=family.new_mark())
    ways = [
        [],
        ["--data-dir", "data"],
        ["--data-dir", str(real / "data")],
        ["--data-dir", "./../real/data/"],
        ["--data-dir", str(link / "data")],
        ["--data-dir", "../link/data"],
    ]
    play(mesh, ways)


def test_loser_is_gone_as_soon_as_its_lock_has_failed(tmp_path: Path):
    took_ms = left_after(tmp_path, 7)
    print("from the failed lock to the end:", quantiles_ms(took_ms))
    assert min(took_ms) < LEAVES_MS, took_ms


def main(rounds: int, at_once: int) -> None:
    won_ms, lost_ms = [], []
    with tempfile.TemporaryDirectory() as folder:
        mesh = RunningMesh(Path(folder), environment=family.new_mark())
        for number in range(rounds):
            won, lost = play(mesh, [[]] * at_once)
            won_ms += won
            lost_ms += lost
            print(f"{number + 1:4} of {rounds} rounds: 1 winner, {len(lost)} losers", flush=True)
    print(f"{rounds} rounds of {at_once} at once: exactly one winner each, who is named by all")
    print("  winner's whole command:", quantiles_ms(won_ms))
    print("  losers' whole command: ", quantiles_ms(lost_ms))
    with tempfile.TemporaryDirectory() as folder:
        print("  one loser alone, failed lock to end:", quantiles_ms(left_after(Path(folder), 100)))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
