"""What one program may take of the machine, and that no memory is left on a disk."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import pytest

from mesh.config import RestartPolicy
from tests.orchestrator.harness import PROGRAMS, eventually, program, server

pytestmark = pytest.mark.e2e


def limit(pid, what):
    """Soft and hard limit of a process, as the kernel tells them."""
    rows = Path(f"/proc/{pid}/limits").read_text().splitlines()
    [row] = [row for row in rows if row.startswith(what)]
    return row.removeprefix(what).split()[:2]


@pytest.mark.skipif(
    resource.getrlimit(resource.RLIMIT_CORE)[1] != resource.RLIM_INFINITY,
    reason="the limit is lower here anyway",
)
def test_nobody_leaves_a_core(mesh, monkeypatch):
    """Supervisor and starter hold keys too; a core lies where the process was."""
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
    try:
        running = mesh(program("ours", "wait"), server("theirs")).up()
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)
    family = running.family()
    assert len(family) == 4
    assert {(pid, *limit(pid, "Max core file size")) for pid in family} == {
        (pid, "1", "1") for pid in family
    }
    lain = {*PROGRAMS.glob("core*"), *Path.cwd().glob("core*")}
    for name in ("ours", "theirs"):
        pid = running.pid(name)
        os.kill(pid, signal.SIGABRT)
        eventually(lambda name=name, pid=pid: running.pid(name) not in {pid, None})
    running.interrupt(signal.SIGABRT)
    running.process.wait(30)
    assert {*PROGRAMS.glob("core*"), *Path.cwd().glob("core*")} == lain


@pytest.mark.parametrize(
    ("what", "said"), [("files", "Too many open files"), ("memory", "Cannot allocate memory")]
)
def test_who_takes_without_end_dies_alone_and_comes_back(mesh, what, said):
    greedy = program("greedy", "hoard", what, restart=RestartPolicy("always"))
    running = mesh(greedy, program("peer", "serve", port=0)).up()
    peer, first = running.pid("peer"), running.pid("greedy")
    os.kill(first, signal.SIGHUP)
    eventually(lambda: running.row("greedy")["restarts"] == 1, within_s=60.0)
    running.wait_state("greedy", "ready")
    assert said in running.log("greedy")
    assert running.get("peer") == str(peer)
    assert running.row("peer")["restarts"] == 0


def test_descriptors_and_memory_of_ours_are_limited_and_others_may_raise_theirs(mesh):
    running = mesh(program("ours", "wait"), server("theirs")).up()
    assert limit(running.pid("ours"), "Max open files") == ["1024", "1024"]
    assert limit(running.pid("ours"), "Max address space") == [str(4 * 2**30)] * 2
    soft, hard = limit(running.pid("theirs"), "Max open files")
    assert (soft, int(hard)) == ("1024", resource.getrlimit(resource.RLIMIT_NOFILE)[1])
