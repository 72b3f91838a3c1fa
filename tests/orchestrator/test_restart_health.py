"""Lives of programs whose health is asked after; histories as in `test_restart.py`."""

from __future__ import annotations

import signal

import pytest

from mesh.config import Healthcheck, RestartPolicy
from mesh.orchestrator.contract import Program
from mesh.orchestrator.life import (
    Beat,
    Exited,
    Life,
    Probed,
    Said,
    Send,
    Start,
    Stop,
    Tick,
)
from mesh.orchestrator.restart import ABORT_S, WATCHDOG_S, decide
from tests.orchestrator.test_restart import ABRT, CONT, KILL, NO, OPEN, SPAWN, TERM

YES, REFUSED = Probed(ok=True, text="200 OK"), Probed(ok=False, text="503")
SILENT = Probed(ok=False, text="no answer within 1 s", silent=True)
BEGUN = [(0, Start(), "starting"), (0, OPEN, "starting", SPAWN)]
UP = [*BEGUN, (1, YES, "ready")]

HISTORIES = {
    "is ready with the first good answer": UP,
    "is not judged while it starts, however it answers": [
        *BEGUN,
        *((at / 10, answer, "starting") for at in range(1, 50) for answer in (REFUSED, SILENT)),
        (5, YES, "ready"),
    ],
    "is killed when no answer is good in time": [
        *BEGUN,
        (9, REFUSED, "starting"),
        (10, Tick(), "stopping", KILL),
        (10.1, SILENT, "stopping"),
        (10.2, Exited(-9), "backoff"),
    ],
    "goes on while fewer answers in a row are bad than its retries": [
        *UP,
        (2, REFUSED, "ready"),
        (3, SILENT, "ready"),
        (4, YES, "ready"),
        (5, SILENT, "ready"),
        (6, REFUSED, "ready"),
        (7, YES, "ready"),
    ],
    "is degraded while it says no, and stays the same process": [
        *UP,
        (2, REFUSED, "ready"),
        (3, REFUSED, "ready"),
        (4, REFUSED, "degraded"),
        (5, REFUSED, "degraded"),
        (60, YES, "ready"),
        (61, REFUSED, "ready"),
    ],
    "is replaced when nobody answers any more": [
        *UP,
        (20, SILENT, "ready"),
        (21, SILENT, "ready"),
        (22, SILENT, "stopping", TERM, CONT),
        (22.1, Exited(0), "starting", SPAWN),
        (22.5, YES, "ready"),
    ],
    "is killed soon when it is too far gone to stop": [
        *UP,
        (20, SILENT, "ready"),
        (21, SILENT, "ready"),
        (22, SILENT, "stopping", TERM, CONT),
        (22 + ABORT_S - 0.1, Tick(), "stopping"),
        (22 + ABORT_S, Tick(), "stopping", KILL),
        (23.1, Exited(-9), "starting", SPAWN),
    ],
    "is replaced when it falls silent after it said no": [
        *UP,
        (2, REFUSED, "ready"),
        (3, REFUSED, "ready"),
        (4, REFUSED, "degraded"),
        (5, SILENT, "stopping", TERM, CONT),
        (5.1, Exited(0), "backoff"),
    ],
    "is stopped, not replaced, when asked while it is being replaced": [
        *UP,
        *((at_s, SILENT, "ready") for at_s in (2, 3)),
        (4, SILENT, "stopping", TERM, CONT),
        (4.2, Stop(), "stopping"),
        (4.3, Exited(0), "stopped"),
    ],
    "is degraded by its own word, whatever it is asked": [
        *UP,
        (2, Said("disk full"), "degraded"),
        (3, YES, "degraded"),
        (4, Said(""), "ready"),
    ],
    "is degraded until neither word nor answer is against it": [
        *UP,
        (2, Said("disk full"), "degraded"),
        *((at_s, REFUSED, "degraded") for at_s in (3, 4, 5)),
        (6, Said(""), "degraded"),
        (7, YES, "ready"),
    ],
    "has a clean record in its next life": [
        *UP,
        (2, SILENT, "ready"),
        (3, SILENT, "ready"),
        (4, Exited(1), "backoff"),
        (4.2, Tick(), "starting", SPAWN),
        (5, YES, "ready"),
        (6, SILENT, "ready"),
        (7, SILENT, "ready"),
    ],
    "has a watchdog beside its question": [
        *UP,
        (2, Beat(), "ready"),
        (3, YES, "ready"),
        (2 + WATCHDOG_S, Tick(), "stopping", ABRT),
    ],
    "is not asked to death while it stops": [
        *UP,
        (2, Stop(), "stopping", TERM, CONT),
        *((at_s, SILENT, "stopping") for at_s in (3, 4, 5, 6)),
        (7, Exited(0), "stopped"),
    ],
    "an answer that comes after its end changes nothing": [
        *UP,
        (2, Exited(1), "backoff"),
        (2.1, SILENT, "backoff"),
        (2.1, YES, "backoff"),
    ],
}


def replay(program, steps):
    life = Life()
    for at_s, event, state, *actions in steps:
        decision = decide(program, life, event, at_s, 1.0)
        life = decision.life
        assert (at_s, event, life.state, [*decision.actions]) == (at_s, event, state, actions)
    return life


@pytest.mark.parametrize("name", HISTORIES)
def test_program(name):
    asked = Healthcheck(("http", "/readyz"))
    replay(Program(name="order", entry="m:f", port=0, health=asked), HISTORIES[name])


def test_retries_say_how_many_bad_answers_count():
    once = Program(name="x", entry="m:f", health=Healthcheck(("tcp",), retries=1))
    life = replay(once, [*UP, (2, REFUSED, "degraded")])
    assert life.cause == "503"


def test_silent_program_that_is_never_restarted_has_failed():
    policy = RestartPolicy("no")
    once = Program(name="x", entry="m:f", restart=policy, health=Healthcheck(("tcp",), retries=1))
    life = replay(once, [*UP, (2, SILENT, "stopping", TERM, CONT), (3, Exited(0), "failed")])
    assert life.cause == "health: no answer within 1 s"


def test_own_stop_signal_and_grace_are_used_on_a_silent_program():
    program = Program(
        name="x",
        entry="m:f",
        restart=NO,
        stop_signal="SIGINT",
        stop_grace_s=0.5,
        health=Healthcheck(("tcp",), retries=1),
    )
    replay(
        program,
        [
            *UP,
            (2, SILENT, "stopping", Send(signal.SIGINT), CONT),
            (2.5, Tick(), "stopping", KILL),
        ],
    )
