"""The starter and the supervisor's end of it, without a supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from pathlib import Path

import pytest

from mesh.errors import ProgramFailed, Unavailable
from mesh.orchestrator import child
from mesh.orchestrator.launcher import STILLBORN_MAX, Launcher, StarterLost
from tests.orchestrator.harness import PROGRAMS, alive, end_of, eventually

pytestmark = pytest.mark.e2e


@pytest.fixture
async def launcher():
    child.adopt_orphans(yes=True)
    made = Launcher([])
    made.attach(lambda: None)
    yield made
    made.close()
    child.adopt_orphans(yes=False)


@contextlib.contextmanager
def descriptors():
    """A door and what else a program gets; ours is the door's other end."""
    ours, theirs = socket.socketpair()
    notify = os.open("/dev/null", os.O_WRONLY)
    log = os.open("/dev/null", os.O_WRONLY)
    with ours, theirs:
        try:
            yield ours, [theirs.fileno(), notify, log]
        finally:
            os.close(notify)
            os.close(log)


def order(**changes):
    return {
        "name": "a",
        "entry": "sample:wait",
        "args": [],
        "command": None,
        "environment": {},
        "working_dir": str(PROGRAMS),
        "walls": None,
        "descriptors": ["door", "notify", "log"],
        **changes,
    }


async def launched(launcher, **changes):
    """A process at its door, our end of which is closed."""
    with descriptors() as (_, handed):
        pid, pidfd = await launcher.launch(order(**changes), handed)
    os.close(pidfd)
    return pid


def wait_for_exit(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


async def test_process_is_our_child_and_never_runs_once_its_door_is_closed(launcher):
    pid = await launched(launcher)
    assert pid in child.children()
    assert wait_for_exit(pid) == 0


async def test_process_waits_at_its_door_until_it_is_told_to_go(launcher):
    with descriptors() as (door, handed):
        pid, pidfd = await launcher.launch(order(command=["true"]), handed)
        os.close(pidfd)
    assert wait_for_exit(pid) == 0
    with descriptors() as (door, handed):
        pid, pidfd = await launcher.launch(order(command=["sh", "-c", "exit 7"]), handed)
        os.close(pidfd)
        door.send(b"g")
        assert wait_for_exit(pid) == 7


async def test_order_that_is_too_large_is_refused_before_it_is_sent(launcher):
    with pytest.raises(ProgramFailed, match="too many"):
        await launched(launcher, environment={"X": "x" * 200_000})
    assert wait_for_exit(await launched(launcher)) == 0


async def test_starter_lost_with_an_order_in_hand_is_told_and_replaced(launcher):
    assert wait_for_exit(await launched(launcher)) == 0
    before = launcher.pid
    os.kill(before, signal.SIGSTOP)
    asking = asyncio.ensure_future(launched(launcher))
    await asyncio.sleep(0)
    os.kill(before, signal.SIGKILL)
    with pytest.raises(StarterLost):
        await asking
    assert launcher.pid != before
    assert wait_for_exit(await launched(launcher)) == 0


async def test_answer_to_an_order_given_up_is_not_taken_for_the_next(launcher):
    """The supervisor would then watch one process and let another go."""
    assert wait_for_exit(await launched(launcher)) == 0
    os.kill(launcher.pid, signal.SIGSTOP)
    given_up = asyncio.ensure_future(launched(launcher))
    await asyncio.sleep(0.05)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    os.kill(launcher.pid, signal.SIGCONT)
    with descriptors() as (door, handed):
        pid, pidfd = await launcher.launch(order(command=["sleep", "1000"]), handed)
        os.close(pidfd)
        door.send(b"g")
        eventually(lambda: b"sleep" in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(pid, signal.SIGKILL)
    assert wait_for_exit(pid) == -9
    child.reap_strangers({launcher.pid})


async def test_line_that_closes_kills_every_group_and_the_starter(launcher):
    with descriptors() as (door, handed):
        pid, pidfd = await launcher.launch(order(command=["sleep", "1000"]), handed)
        os.close(pidfd)
        door.send(b"g")
        eventually(lambda: b"sleep" in Path(f"/proc/{pid}/cmdline").read_bytes())
    starter = launcher.pid
    launcher.close()
    assert not alive(starter)
    end_of(pid)
    assert wait_for_exit(pid) == -9


async def test_group_that_was_forgotten_is_left_alone(launcher):
    with descriptors() as (door, handed):
        pid, pidfd = await launcher.launch(order(command=["sleep", "1000"]), handed)
        os.close(pidfd)
        door.send(b"g")
        eventually(lambda: b"sleep" in Path(f"/proc/{pid}/cmdline").read_bytes())
        launcher.forget(pid)
        assert wait_for_exit(await launched(launcher)) == 0
    launcher.close()
    assert alive(pid)
    os.kill(pid, signal.SIGKILL)
    assert wait_for_exit(pid) == -9


async def test_starter_that_dies_while_it_imports_is_not_replaced_for_ever(tmp_path, monkeypatch):
    counted = tmp_path / "counted"
    (tmp_path / "deadly.py").write_text(
        f"import os; open({str(counted)!r}, 'a').write('x'); os._exit(3)"
    )
    monkeypatch.syspath_prepend(tmp_path)
    launcher = Launcher(["deadly"])
    launcher.attach(lambda: None)
    for _ in range(STILLBORN_MAX):
        with pytest.raises(Unavailable):
            await launched(launcher)
    with pytest.raises(Unavailable, match="dies while it imports"):
        await launched(launcher)
    launcher.close()
    assert counted.read_text() == "x" * STILLBORN_MAX
