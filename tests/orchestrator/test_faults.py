"""Faults on purpose: they hit the program named, count as accidents, and end by themselves."""

from __future__ import annotations

import asyncio
import signal

import pytest

from mesh.errors import Conflict, InvalidInput
from mesh.orchestrator.contract import Fault
from mesh.orchestrator.faults import FAULTS_MAX, FOR_S_MAX, Faults


class Programs:
    """Pids by name, and every signal that was sent."""

    def __init__(self) -> None:
        self.pids: dict[str, int | None] = {"order": 100, "bus": 200, "gone": None}
        self.sent: list[tuple[str, int]] = []

    def send(self, name: str, number: int) -> None:
        self.sent.append((name, number))


@pytest.fixture
def programs():
    return Programs()


@pytest.fixture
async def faults(programs):
    found = Faults(programs.pids.get, programs.send)
    yield found
    found.end()


def fault(kind, target="order", for_s=30.0, **members):
    return Fault(kind=kind, target=target, for_s=for_s, **members)


async def test_pause_ends_at_its_deadline(faults, programs):
    faults.begin(fault("pause", for_s=0.05))
    assert programs.sent == [("order", signal.SIGSTOP)]
    assert [each.kind for each in faults.of("order")] == ["pause"]
    assert faults.of("bus") == ()
    await asyncio.sleep(0.1)
    assert programs.sent == [("order", signal.SIGSTOP), ("order", signal.SIGCONT)]
    assert faults.of("order") == ()


async def test_another_process_is_neither_continued_nor_shown_as_broken(faults, programs):
    faults.begin(fault("pause", for_s=0.05))
    faults.begin(fault("latency"))
    programs.pids["order"] = 101
    assert faults.of("order") == ()
    await asyncio.sleep(0.1)
    assert programs.sent == [("order", signal.SIGSTOP)]


async def test_kill_once_and_kill_again_and_again(faults, programs):
    faults.begin(fault("kill", for_s=0.0))
    assert programs.sent == [("order", signal.SIGKILL)]
    await asyncio.sleep(0.05)
    assert faults.of("order") == ()
    faults.begin(fault("kill", "bus", for_s=2.0, rate=10.0, seed=1))
    programs.pids["bus"] = 201
    assert [each.kind for each in faults.of("bus")] == ["kill"], "it goes on with the next process"
    await asyncio.sleep(2.1)
    kills = programs.sent.count(("bus", signal.SIGKILL))
    assert 4 <= kills <= 40, "twenty on average"
    await asyncio.sleep(0.2)
    assert programs.sent.count(("bus", signal.SIGKILL)) == kills
    assert faults.of("bus") == ()


async def test_ending_all_at_once_continues_what_is_paused(faults, programs):
    faults.begin(fault("pause"))
    faults.begin(fault("pause", "bus"))
    faults.begin(fault("drop", "bus"))
    assert {each.kind for each in faults.end(["order"])} == {"pause"}
    assert programs.sent[-1] == ("order", signal.SIGCONT)
    assert len(faults.end()) == 2
    assert programs.sent[-1] == ("bus", signal.SIGCONT)
    assert faults.end() == ()


async def test_second_of_a_kind_takes_the_place_of_the_first(faults):
    faults.begin(fault("latency", ms=100))
    faults.begin(fault("latency", ms=200))
    assert [each.ms for each in faults.of("order")] == [200]


async def test_time_left_counts_down(faults):
    faults.begin(fault("error", for_s=10.0))
    (shown,) = faults.of("order")
    assert 0.0 < shown.left_s <= 10.0


@pytest.mark.parametrize(
    ("wrong", "shape"),
    [
        (fault("kill", "gone"), Conflict),
        (fault("pause", for_s=FOR_S_MAX + 1), InvalidInput),
        (fault("latency", rate=1.5), InvalidInput),
        (fault("kill", rate=11.0), InvalidInput),
    ],
)
async def test_what_cannot_be_broken_is_refused(faults, programs, wrong, shape):
    with pytest.raises(shape):
        faults.begin(wrong)
    assert programs.sent == []


async def test_number_of_faults_is_bounded(programs):
    programs.pids |= {f"p{n}": n for n in range(FAULTS_MAX + 1)}
    found = Faults(programs.pids.get, programs.send)
    for n in range(FAULTS_MAX):
        found.begin(fault("error", f"p{n}"))
    with pytest.raises(Conflict):
        found.begin(fault("error", f"p{FAULTS_MAX}"))
    found.end()
