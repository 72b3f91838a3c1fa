"""Whole lives of programs, replayed through the reconciler without starting one.

A history is a list of steps: at this second, this happens; then the program is in this state and
these actions were taken. `chance` is 1, so every backoff takes its full length.
"""

from __future__ import annotations

import signal

import pytest

from mesh import codec
from mesh.config import RestartPolicy
from mesh.errors import InvalidInput
from mesh.notify import BEAT_S
from mesh.orchestrator.contract import Program
from mesh.orchestrator.life import (
    Beat,
    Excuse,
    Exited,
    Extend,
    Gate,
    Kill,
    Life,
    Ready,
    Restart,
    Said,
    Send,
    Spawn,
    Start,
    Stop,
    Tick,
    Unstartable,
    signal_number,
)
from mesh.orchestrator.restart import EXCUSES_MAX, WATCHDOG_S, decide

SPAWN = Spawn()
TERM, CONT, KILL, ABRT = (
    Send(number) for number in (signal.SIGTERM, signal.SIGCONT, signal.SIGKILL, signal.SIGABRT)
)
OPEN, WAIT, BLOCKED = Gate("open"), Gate("wait", "waits for bus"), Gate("blocked", "bus failed")

UP = [(0, Start(), "starting"), (0, OPEN, "starting", SPAWN), (1, Ready(), "ready")]
"""The first second of most lives."""

NO, ALWAYS = RestartPolicy("no"), RestartPolicy("always")
ON_FAILURE, TWICE = RestartPolicy("on-failure"), RestartPolicy("on-failure", 2)
UNLESS_STOPPED = RestartPolicy("unless-stopped")


def crashes(*times: float, status: int = 1) -> list[tuple]:
    """Quick failures, each followed by the whole backoff and a new start."""
    steps = []
    for n, at_s in enumerate(times):
        wait_s = min(10.0, 0.2 * 2**n)
        steps.append((at_s, Exited(status), "backoff"))
        steps.append((at_s + wait_s, Tick(), "starting", SPAWN))
    return steps


HISTORIES: dict[str, tuple[RestartPolicy, list[tuple]]] = {
    # starting
    "starts when nothing is to be waited for": (ON_FAILURE, UP),
    "waits for what it depends on, then starts": (
        ON_FAILURE,
        [
            (0, Start(), "starting"),
            (0, WAIT, "starting"),
            (5, Tick(), "starting"),
            (60, OPEN, "starting", SPAWN),
            (69, Ready(), "ready"),
        ],
    ),
    "fails while its dependency has failed, starts when that is mended": (
        ON_FAILURE,
        [
            (0, Start(), "starting"),
            (1, BLOCKED, "failed"),
            (2, WAIT, "starting"),
            (3, OPEN, "starting", SPAWN),
            (4, Ready(), "ready"),
        ],
    ),
    "starts once however often the gate is found open": (
        ON_FAILURE,
        [*UP, (2, OPEN, "ready"), (3, WAIT, "ready"), (4, BLOCKED, "ready")],
    ),
    "starts once however often it is asked": (
        ON_FAILURE,
        [*UP[:2], (0.5, Start(), "starting"), (1, Ready(), "ready"), (2, Start(), "ready")],
    ),
    "is killed when it is not ready in time, and tried again": (
        ON_FAILURE,
        [
            *UP[:2],
            (9.9, Tick(), "starting"),
            (10, Tick(), "stopping", KILL),
            (10.1, Exited(-9), "backoff"),
            (10.3, Tick(), "starting", SPAWN),
        ],
    ),
    "is given another beat's time to get ready when we were away ourselves": (
        ON_FAILURE,
        [
            *UP[:2],
            (60, Tick(), "starting"),
            (60 + BEAT_S - 0.1, Tick(), "starting"),
            (60 + BEAT_S, Tick(), "stopping", KILL),
        ],
    ),
    "may still get ready after we were away": (
        ON_FAILURE,
        [*UP[:2], (60, Tick(), "starting"), (60.1, Extend(4), "starting"), (62, Ready(), "ready")],
    ),
    "fails when it is never ready": (
        TWICE,
        [
            *UP[:2],
            (10, Tick(), "stopping", KILL),
            (10, Exited(-9), "backoff"),
            (10.2, Tick(), "starting", SPAWN),
            (20.2, Tick(), "stopping", KILL),
            (20.3, Exited(-9), "failed"),
            (99, Tick(), "failed"),
        ],
    ),
    "is given time while it asks for more": (
        TWICE,
        [
            *UP[:2],
            (1, Extend(4), "starting"),
            (9, Extend(4), "starting"),
            (10, Tick(), "starting"),
            (12, Extend(4), "starting"),
            (16, Tick(), "stopping", KILL),
            (16, Extend(4), "stopping"),
            (16.1, Exited(-9), "backoff"),
            (16.1, Extend(4), "backoff"),
            (16.3, Tick(), "starting", SPAWN),
            (17, Ready(), "ready"),
            (18, Extend(4), "ready"),
            (99, Tick(), "ready"),
        ],
    ),
    "is not tried again when it could not even be made": (
        ON_FAILURE,
        [*UP[:2], (0.1, Unstartable("port 7004 is taken"), "failed"), (99, Tick(), "failed")],
    ),
    "is tried again when it could not be made for want of something": (
        TWICE,
        [
            *UP[:2],
            (1, Unstartable("cannot fork", again=True), "backoff"),
            (1.2, Tick(), "starting", SPAWN),
            (1.3, Unstartable("cannot fork", again=True), "failed"),
        ],
    ),
    "is not tried again for want of something when it is never to be restarted": (
        NO,
        [*UP[:2], (0.1, Unstartable("cannot fork", again=True), "failed")],
    ),
    "stops when it could not be made after it was asked to stop": (
        ON_FAILURE,
        [
            *UP[:2],
            (0.1, Stop(), "stopping", TERM, CONT),
            (0.2, Unstartable("fork"), "stopped"),
        ],
    ),
    "ignores ready from a process it is ending": (
        ON_FAILURE,
        [*UP[:2], (0.1, Stop(), "stopping", TERM, CONT), (0.2, Ready(), "stopping")],
    ),
    # ending by itself
    "is done after exit 0": (ON_FAILURE, [*UP, (2, Exited(0), "stopped"), (99, Tick(), "stopped")]),
    "is done after exit 0 before it was ready": (
        NO,
        [*UP[:2], (0.5, Exited(0), "stopped")],
    ),
    "fails after exit 1 when it is never to be restarted": (NO, [*UP, (2, Exited(1), "failed")]),
    "is started again after exit 0 when it is always to run": (
        ALWAYS,
        [*UP, (2, Exited(0), "backoff"), (2.2, Tick(), "starting", SPAWN)],
    ),
    "is started again after exit 0 unless it was stopped": (
        UNLESS_STOPPED,
        [*UP, (2, Exited(0), "backoff"), (2.2, Tick(), "starting", SPAWN)],
    ),
    "fails at once after exit 78": (ON_FAILURE, [*UP[:2], (0.2, Exited(78), "failed")]),
    "fails at once after exit 78 even if it is always to run": (
        ALWAYS,
        [*UP, (30, Exited(78), "failed"), (99, Tick(), "failed")],
    ),
    # crashing
    "is started at once after a steady life": (
        ON_FAILURE,
        [*UP, (11, Exited(-9), "starting", SPAWN), (11.1, Ready(), "ready")],
    ),
    "waits also when it ends at the very moment it began": (
        ON_FAILURE,
        [*UP[:2], (0, Exited(1), "backoff"), (0.2, Tick(), "starting", SPAWN)],
    ),
    "waits after a life that was not steady": (
        ON_FAILURE,
        [*UP, (10.9, Exited(-9), "backoff"), (11.1, Tick(), "starting", SPAWN)],
    ),
    "waits twice as long after each failure": (
        RestartPolicy("always"),
        [*UP, *crashes(1, 2, 3, 5, 9, 16, 30, 60, 90)],
    ),
    "does not start before its backoff is over": (
        ON_FAILURE,
        [
            *UP,
            (2, Exited(1), "backoff"),
            (2.19, Tick(), "backoff"),
            (2.2, Tick(), "starting", SPAWN),
        ],
    ),
    "begins with a short wait again after a steady life": (
        ON_FAILURE,
        [
            *UP,
            *crashes(1, 2),
            (3, Ready(), "ready"),
            (14, Exited(1), "starting", SPAWN),
            (15, Exited(1), "backoff"),
            (15.2, Tick(), "starting", SPAWN),
        ],
    ),
    "fails after five crashes in a minute": (
        ON_FAILURE,
        [*UP, *crashes(1, 2, 3, 5), (9, Exited(1), "failed"), (99, Tick(), "failed")],
    ),
    "fails after as many crashes as its policy says": (
        TWICE,
        [*UP, *crashes(1), (2, Exited(-11), "failed")],
    ),
    "never fails when the crashes are far apart": (
        ON_FAILURE,
        [
            *UP,
            *(
                step
                for at_s in range(20, 200, 15)
                for step in [
                    (at_s, Exited(-9), "starting", SPAWN),
                    (at_s + 1, Ready(), "ready"),
                ]
            ),
        ],
    ),
    "fails after five steady lives that end in one minute": (
        ON_FAILURE,
        [
            *UP,
            *(
                step
                for at_s in (11, 22, 33, 44)
                for step in [(at_s, Exited(1), "starting", SPAWN), (at_s + 1, Ready(), "ready")]
            ),
            (55, Exited(1), "failed"),
        ],
    ),
    "never gives up when it is always to run": (
        ALWAYS,
        [*UP, *crashes(1, 2, 3, 5, 9, 16, 30, 45, 60, 75)],
    ),
    "starts anew, with a clean record, when asked after it failed": (
        TWICE,
        [
            *UP,
            *crashes(1),
            (2, Exited(1), "failed"),
            (3, Start(), "starting"),
            (3, OPEN, "starting", SPAWN),
            (4, Exited(1), "backoff"),
            (4.2, Tick(), "starting", SPAWN),
        ],
    ),
    "starts at once when asked during its backoff": (
        ON_FAILURE,
        [*UP, (2, Exited(1), "backoff"), (2.1, Start(), "starting", SPAWN)],
    ),
    # being asked to stop
    "stops when asked, whatever its exit status": (
        ALWAYS,
        [
            *UP,
            (5, Stop(), "stopping", TERM, CONT),
            (6, Exited(1), "stopped"),
            (99, Tick(), "stopped"),
        ],
    ),
    "is killed when it does not stop in its grace": (
        ON_FAILURE,
        [
            *UP,
            (5, Stop(), "stopping", TERM, CONT),
            (14.9, Tick(), "stopping"),
            (15, Tick(), "stopping", KILL),
            (15.1, Exited(-9), "stopped"),
        ],
    ),
    "is killed at the common deadline, not after its own grace": (
        ON_FAILURE,
        [*UP, (5, Stop(by_s=7), "stopping", TERM, CONT), (7, Tick(), "stopping", KILL)],
    ),
    "is killed at once when the deadline has passed": (
        ON_FAILURE,
        [*UP, (5, Stop(by_s=5), "stopping", KILL), (5.1, Exited(-9), "stopped")],
    ),
    "is killed at once when asked a second time with less patience": (
        ON_FAILURE,
        [*UP, (5, Stop(), "stopping", TERM, CONT), (6, Stop(by_s=6), "stopping", KILL)],
    ),
    "keeps the earlier of two deadlines": (
        ON_FAILURE,
        [
            *UP,
            (5, Stop(by_s=8), "stopping", TERM, CONT),
            (6, Stop(by_s=20), "stopping"),
            (8, Tick(), "stopping", KILL),
        ],
    ),
    "stops while it waits for its dependency": (
        ON_FAILURE,
        [
            (0, Start(), "starting"),
            (0, WAIT, "starting"),
            (1, Stop(), "stopped"),
            (2, OPEN, "stopped"),
        ],
    ),
    "stops during its backoff": (
        ON_FAILURE,
        [*UP, (2, Exited(1), "backoff"), (2.1, Stop(), "stopped"), (99, Tick(), "stopped")],
    ),
    "stops when it had failed": (NO, [*UP, (2, Exited(1), "failed"), (3, Stop(), "stopped")]),
    "stops during its start": (
        ON_FAILURE,
        [*UP[:2], (0.5, Stop(), "stopping", TERM, CONT), (0.6, Exited(0), "stopped")],
    ),
    "crashes while it stops, and is not restarted": (
        ALWAYS,
        [*UP, (5, Stop(), "stopping", TERM, CONT), (5.1, Exited(-11), "stopped")],
    ),
    "is stopped, not restarted, when asked while it is killed for a timeout": (
        ON_FAILURE,
        [
            *UP[:2],
            (10, Tick(), "stopping", KILL),
            (10.05, Stop(), "stopping"),
            (10.1, Exited(-9), "stopped"),
        ],
    ),
    "starts again after it stopped, when asked while stopping": (
        NO,
        [
            *UP,
            (5, Stop(), "stopping", TERM, CONT),
            (5.1, Start(), "stopping"),
            (6, Exited(0), "starting", SPAWN),
        ],
    ),
    "does nothing when it is stopped twice": (
        ON_FAILURE,
        [(0, Stop(), "stopped"), (1, Stop(), "stopped"), (2, Tick(), "stopped")],
    ),
    # being asked to restart
    "restarts when asked, without waiting": (
        NO,
        [
            *UP,
            (5, Restart(), "stopping", TERM, CONT),
            (5.3, Exited(1), "starting", SPAWN),
            (5.4, Ready(), "ready"),
        ],
    ),
    "is killed when it does not end for a restart, and starts": (
        ON_FAILURE,
        [
            *UP,
            (5, Restart(), "stopping", TERM, CONT),
            (15, Tick(), "stopping", KILL),
            (15.1, Exited(-9), "starting", SPAWN),
        ],
    ),
    "starts when a stopped one is asked to restart": (
        ON_FAILURE,
        [(0, Restart(), "starting"), (0, OPEN, "starting", SPAWN)],
    ),
    "stops when asked during a restart": (
        ON_FAILURE,
        [
            *UP,
            (5, Restart(), "stopping", TERM, CONT),
            (5.1, Stop(), "stopping"),
            (6, Exited(0), "stopped"),
        ],
    ),
    # being asked for a signal
    "starts at once when it was killed by request": (
        ON_FAILURE,
        [
            *UP,
            *(
                step
                for n in range(2, 12)
                for step in [
                    (n, Kill(signal.SIGKILL), "ready", KILL),
                    (n + 0.1, Exited(-9), "starting", SPAWN),
                    (n + 0.2, Ready(), "ready"),
                ]
            ),
        ],
    ),
    "rests when it was killed by request and is never to be restarted": (
        NO,
        [*UP, (2, Kill(signal.SIGKILL), "ready", KILL), (2.1, Exited(-9), "stopped")],
    ),
    "has crashed when it ends long after a signal it survived": (
        ON_FAILURE,
        [
            *UP,
            (2, Kill(signal.SIGHUP), "ready", Send(signal.SIGHUP)),
            (12.5, Exited(1), "starting", SPAWN),
            (13, Exited(1), "backoff"),
        ],
    ),
    "gets no signal when it does not run": (
        ON_FAILURE,
        [(0, Kill(signal.SIGKILL), "stopped"), (1, Start(), "starting"), (2, Kill(9), "starting")],
    ),
    # its heart and its mood
    "is aborted, then killed, then restarted when its beats stop": (
        ON_FAILURE,
        [
            *UP,
            (2, Beat(), "ready"),
            (3, Beat(), "ready"),
            (3 + WATCHDOG_S - 0.1, Tick(), "ready"),
            (3 + WATCHDOG_S, Tick(), "stopping", ABRT),
            (4 + WATCHDOG_S, Tick(), "stopping", KILL),
            (4.1 + WATCHDOG_S, Exited(-9), "backoff"),
        ],
    ),
    "is restarted at once when a steady one freezes and dies of the abort": (
        ON_FAILURE,
        [
            *UP,
            (20, Beat(), "ready"),
            (20 + WATCHDOG_S, Tick(), "stopping", ABRT),
            (20.1 + WATCHDOG_S, Exited(-6), "starting", SPAWN),
        ],
    ),
    "is watched from the moment it is ready when it beat before": (
        ON_FAILURE,
        [
            *UP[:2],
            (0.5, Beat(), "starting"),
            (1, Ready(), "ready"),
            (1 + WATCHDOG_S, Tick(), "stopping", ABRT),
        ],
    ),
    "is given another beat's time when we were away ourselves": (
        ON_FAILURE,
        [
            *UP,
            (2, Beat(), "ready"),
            (60, Tick(), "ready"),
            (60 + BEAT_S - 0.1, Tick(), "ready"),
            (60 + BEAT_S, Tick(), "stopping", ABRT),
        ],
    ),
    "is left alone when it beats after we were away": (
        ON_FAILURE,
        [
            *UP,
            (2, Beat(), "ready"),
            (60, Tick(), "ready"),
            (60.1, Beat(), "ready"),
            (60 + BEAT_S, Tick(), "ready"),
            (60 + WATCHDOG_S, Tick(), "ready"),
        ],
    ),
    "is not watched when it never beats": (ON_FAILURE, [*UP, (999, Tick(), "ready")]),
    "is watched anew after a restart": (
        ON_FAILURE,
        [
            *UP,
            (20, Beat(), "ready"),
            (21, Exited(-9), "starting", SPAWN),
            (22, Ready(), "ready"),
            (999, Tick(), "ready"),
        ],
    ),
    "survives a supervisor that was suspended, since its beats are read first": (
        ON_FAILURE,
        [*UP, (2, Beat(), "ready"), (600, Beat(), "ready"), (600, Tick(), "ready")],
    ),
    "is degraded while it says so": (
        ON_FAILURE,
        [
            *UP,
            (2, Said("stream product is fenced"), "degraded"),
            (3, Beat(), "degraded"),
            (4, Said("still fenced"), "degraded"),
            (5, Said(""), "ready"),
            (6, Said(""), "ready"),
        ],
    ),
    "has been steady also while degraded": (
        ON_FAILURE,
        [*UP, (2, Said("no space"), "degraded"), (12, Exited(1), "starting", SPAWN)],
    ),
    "is not degraded by what it says while it starts": (
        ON_FAILURE,
        [*UP[:2], (0.5, Said("migrating"), "starting"), (1, Ready(), "ready")],
    ),
}


@pytest.mark.parametrize("name", HISTORIES)
def test_program(name):
    policy, steps = HISTORIES[name]
    program = Program(name="order", entry="m:f", restart=policy)
    life = Life()
    for at_s, event, state, *actions in steps:
        decision = decide(program, life, event, at_s, 1.0)
        life = decision.life
        assert (at_s, event, life.state, [*decision.actions]) == (at_s, event, state, actions)


def life_after(*steps, program=None, chance=1.0):
    life = Life()
    for at_s, event in steps:
        life = decide(program or Program(name="x", entry="m:f"), life, event, at_s, chance).life
    return life


STARTED = [(0, Start()), (0, OPEN), (1, Ready())]


@pytest.mark.parametrize(
    ("steps", "cause"),
    [
        ([*STARTED, (2, Exited(1))], "exit 1"),
        ([*STARTED, (2, Exited(-9))], "signal 9"),
        ([(0, Start()), (0, OPEN), (10, Tick()), (11, Exited(-9))], "start timeout"),
        ([*STARTED, (2, Beat()), (2 + WATCHDOG_S, Tick()), (7, Exited(-6))], "watchdog"),
        ([(0, Start()), (0, WAIT)], "waits for bus"),
        ([(0, Start()), (0, BLOCKED)], "bus failed"),
        ([*STARTED, (2, Said("fenced"))], "fenced"),
        ([*STARTED, (2, Kill(9)), (2.1, Exited(-9))], "signal 9, asked"),
        ([*STARTED, (2, Stop()), (3, Exited(1))], "asked"),
    ],
)
def test_life_says_why_it_is_in_its_state(steps, cause):
    assert life_after(*steps).cause == cause


def test_crash_loop_names_the_last_exit_and_the_bound():
    program = Program(name="x", entry="m:f", restart=RestartPolicy("on-failure", 2))
    life = life_after(*STARTED, (2, Exited(3)), (2.2, Tick()), (2.3, Exited(3)), program=program)
    assert life.cause == "exit 3; 2 failures in 60 s"


def test_restarts_count_crashes_but_not_what_was_asked():
    crashed = life_after(*STARTED, (20, Exited(1)), (21, Ready()), (22, Exited(1)), (22.2, Tick()))
    asked = life_after(*STARTED, (2, Restart()), (3, Exited(0)), (4, Kill(9)), (4.1, Exited(-9)))
    assert (crashed.restarts, asked.restarts) == (2, 0)


def test_stop_tells_whether_it_had_to_kill():
    killed = life_after(*STARTED, (2, Stop()), (12, Tick()), (12.1, Exited(-9)))
    graceful = life_after(*STARTED, (2, Stop()), (3, Exited(0)))
    assert (killed.killed, graceful.killed) == (True, False)


def test_killed_is_forgotten_by_the_next_life():
    steps = [(2, Stop()), (12, Tick()), (12.1, Exited(-9)), (13, Start()), (13, OPEN)]
    assert not life_after(*STARTED, *steps).killed


def test_backoff_is_jittered_over_its_whole_length():
    waits = {
        chance: life_after(*STARTED, (2, Exited(1)), chance=chance).wake_s
        for chance in (0.0, 0.25, 1.0)
    }
    assert waits == {0.0: 2.0, 0.25: 2.05, 1.0: 2.2}


def test_deciding_leaves_the_old_life_as_it_was():
    life = Life()
    before = codec.encode(life)
    decide(Program(name="x", entry="m:f"), life, Start(), 0.0, 0.5)
    assert codec.encode(life) == before


@pytest.mark.parametrize("text", ["TERM", "SIGTERM", "sigterm", "15"])
def test_signal_number_takes_every_usual_form(text):
    assert signal_number(text) == signal.SIGTERM


@pytest.mark.parametrize("text", ["", "SIG", "TREM", "0", "-9", "99"])
def test_signal_number_refuses_what_is_none(text):
    with pytest.raises(InvalidInput, match="no signal"):
        signal_number(text)


@pytest.mark.parametrize(
    ("steps", "died"),
    [
        ([(2, Exited(9))], "exit 9"),
        ([(2, Exited(-11))], "signal 11"),
        ([(2, Kill(9)), (2.1, Exited(-9))], ""),
        ([(2, Restart()), (2.1, Exited(0))], ""),
        ([(2, Stop()), (3, Exited(1)), (4, Start()), (4, OPEN)], ""),
        ([(2, Beat()), (2 + WATCHDOG_S, Tick()), (9.1, Exited(-6))], ""),
        ([(2, Exited(9)), (2.2, Tick()), (3, Kill(9)), (3.1, Exited(-9))], ""),
        ([(2, Exited(9)), (2.1, Stop()), (3, Start()), (3, OPEN)], ""),
        ([(2, Exited(9)), (2.2, Tick()), (3, Ready())], "exit 9"),
    ],
)
def test_life_tells_an_end_that_nobody_wished(steps, died):
    assert life_after(*STARTED, *steps).died == died


def test_excused_end_is_no_failure_and_is_followed_by_a_start_at_once():
    life = life_after(*STARTED, (2, Excuse(wanted=True)), (2.1, Exited(9)))
    assert (life.state, life.failures, life.restarts) == ("starting", (), 1)
    assert life.died == "exit 9"


@pytest.mark.parametrize(
    "steps",
    [
        [(2, Excuse(wanted=True)), (2.1, Excuse(wanted=False)), (2.2, Exited(9))],
        [(2, Excuse(wanted=True)), (2.1, Exited(9)), (2.2, Exited(9))],
    ],
    ids=["taken back", "not for the next life"],
)
def test_excuse_holds_for_what_it_was_said_of(steps):
    assert life_after(*STARTED, *steps).state == "backoff"


def test_excuses_have_an_end():
    life = Life()
    program = Program(name="x", entry="m:f")
    for at_s, event in STARTED:
        life = decide(program, life, event, at_s, 1.0).life
    for n in range(EXCUSES_MAX + 1):
        for event in (Excuse(wanted=True), Exited(9)):
            assert life.state != "backoff", f"after {n}"
            life = decide(program, life, event, 2 + n, 1.0).life
    assert life.state == "backoff"
