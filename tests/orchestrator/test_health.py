"""Health questions put to real programs, and what programs say of themselves over a socket."""

from __future__ import annotations

import json
import os
import signal
import stat
import sys
from pathlib import Path

import pytest

from mesh.config import Healthcheck, RestartPolicy
from mesh.orchestrator import token_file
from tests.orchestrator.harness import PROGRAMS, alive, eventually, program, server

pytestmark = pytest.mark.e2e

SH = "/bin/sh"


def asked(*test, **members):
    """A question put often enough for a test."""
    return Healthcheck(test=test, **{"interval_s": 0.05, "timeout_s": 2.0, **members})


def told(running, name):
    return running.remote.explain(name)


def test_http_question_makes_ready_degrades_and_mends(mesh, tmp_path):
    mood = tmp_path / "mood"
    mood.write_text("no")
    running = mesh(program("a", "moody", str(mood), port=0, health=asked("http", "/"))).begin()
    eventually(running.answers)
    eventually(lambda: (told(running, "a")["probe"] or {}).get("answer") == "503 Not now: as told")
    assert running.states() == {"a": "starting"}
    mood.write_text("yes")
    running.wait_state("a", "ready")
    pid = running.pid("a")
    mood.write_text("no")
    running.wait_state("a", "degraded")
    assert running.row("a")["cause"] == "503 Not now: as told"
    mood.write_text("yes")
    running.wait_state("a", "ready")
    assert running.pid("a") == pid
    assert running.row("a")["restarts"] == 0


def test_program_that_falls_silent_is_replaced(mesh, tmp_path):
    mood = tmp_path / "mood"
    mood.write_text("yes")
    question = asked("http", "/", timeout_s=0.2)
    running = mesh(program("a", "moody", str(mood), port=0, health=question)).up()
    before = running.pid("a")
    mood.write_text("nothing")
    [stopping] = running.wait_state("a", "stopping")
    assert stopping["cause"] == "health: no answer within 0.2 s"
    mood.write_text("yes")
    running.wait_state("a", "ready")
    assert not alive(before)
    assert told(running, "a")["last_exit"]["how"] == "exit 0"


def test_suspended_program_of_any_kind_is_replaced(mesh):
    running = mesh(server("a", health=asked("http", "/", timeout_s=0.3))).up()
    before = running.pid("a")
    os.kill(before, signal.SIGSTOP)
    [stopping] = running.wait_state("a", "stopping")
    assert stopping["cause"] == "health: no answer within 0.3 s"
    running.wait_state("a", "ready")
    assert not alive(before)


def test_command_is_asked_in_the_programs_own_world(mesh, tmp_path):
    seen = tmp_path / "seen"
    line = f"pwd > {seen}; echo $MESH_SERVICE $GREETING $PORT >> {seen}; exit 0"
    running = mesh(
        server("a", environment={"GREETING": "hello"}, health=asked("CMD-SHELL", line))
    ).up()
    assert seen.read_text().splitlines() == [str(PROGRAMS), f"a hello {running.port('a')}"]


def test_last_words_of_a_command_say_why_it_is_not_ready(mesh, tmp_path):
    there = tmp_path / "there"
    command = f"echo first; echo no {there.name} yet >&2; test -e {there}"
    running = mesh(
        program("a", command=(SH, "-c", "sleep 60"), health=asked("CMD-SHELL", command))
    ).begin()
    eventually(running.answers)
    eventually(lambda: (told(running, "a")["probe"] or {}).get("answer") == "exit 1: no there yet")
    there.touch()
    running.wait_state("a", "ready")
    there.unlink()
    running.wait_state("a", "degraded")
    assert running.row("a")["cause"] == "exit 1: no there yet"


def test_command_that_hangs_is_killed_with_all_it_started(mesh, tmp_path):
    pids = tmp_path / "pids"
    hangs = f"sleep 1000 & echo $$ $! >> {pids}; yes"
    running = mesh(
        program(
            "a",
            command=(SH, "-c", "sleep 60"),
            start_timeout_s=3.0,
            restart=RestartPolicy("no"),
            health=asked("CMD-SHELL", hangs, timeout_s=0.2),
        )
    ).begin()
    eventually(running.answers)
    running.wait_state("a", "failed")
    assert running.row("a")["cause"] == "start timeout"
    started = [int(pid) for pid in pids.read_text().split()]
    assert len(started) >= 2
    eventually(lambda: not any(map(alive, started)))
    assert told(running, "a")["last_exit"]["how"] == "signal 9"


def test_command_that_cannot_be_run_says_so(mesh):
    running = mesh(
        program(
            "a",
            command=(SH, "-c", "sleep 60"),
            start_timeout_s=2.0,
            restart=RestartPolicy("no"),
            health=asked("CMD", "/no/such/check"),
        )
    ).begin()
    eventually(running.answers)
    running.wait_state("a", "failed")
    assert "cannot run /no/such/check" in told(running, "a")["probe"]["answer"]


def test_commands_leave_nothing_open(mesh):
    running = mesh(server("a", health=asked("CMD", "true", interval_s=0.01))).up()
    folder = Path(f"/proc/{running.process.pid}/fd")
    counts = set()

    def steady():
        counts.add(len([*folder.iterdir()]))
        return told(running, "a")["uptime_s"] > 3.0

    eventually(steady)
    assert max(counts) - min(counts) <= 8


def test_line_of_the_log_makes_ready_once(mesh):
    script = "echo getting there; sleep 0.2; echo listening on 80; sleep 60"
    ready = asked("log", r"listening on \d+")
    running = mesh(program("a", command=(SH, "-c", script), health=ready)).up()
    assert running.states() == {"a": "ready"}
    assert told(running, "a")["probe"]["answer"] == "listening on 80"


def test_line_of_an_earlier_life_makes_nobody_ready(mesh, tmp_path):
    once = tmp_path / "once"
    script = f"test -e {once} && exec sleep 60; touch {once}; echo listening; exec sleep 60"
    running = mesh(
        program(
            "a", command=(SH, "-c", script), start_timeout_s=2.0, health=asked("log", "listening")
        )
    ).up()
    running.remote.kill(["a"], "KILL")
    *_, stopping = running.wait_state("a", "stopping")
    assert stopping["cause"] == "start timeout"


def notifier(name, *words, **members):
    command = (sys.executable, str(PROGRAMS / "notifier.py"), *words)
    return program(name, command=command, **members)


def test_program_that_is_not_ready_yet_may_ask_for_time(mesh):
    health = Healthcheck(("notify",))
    members = {"health": health, "start_timeout_s": 2.0, "restart": RestartPolicy("no")}
    running = mesh(
        notifier("a", "EXTEND_TIMEOUT_USEC=5000000", **members),
        notifier("b", "EXTEND_TIMEOUT_USEC=much", **members),
    ).begin()
    eventually(running.answers)
    running.wait_state("b", "failed")
    assert running.states()["a"] == "starting"
    running.wait_state("a", "failed")
    assert running.row("a")["cause"] == "start timeout"


def test_any_program_may_say_that_it_is_ready(mesh):
    running = mesh(
        notifier("a", "READY=1", health=Healthcheck(("notify",))),
        notifier("b", "STATUS=warming up", health=Healthcheck(("notify",))),
        notifier("c", "READY=1\nSTATUS=disk full"),
    ).begin()
    eventually(running.answers)
    running.wait_for(lambda states: (states["a"], states["c"]) == ("ready", "degraded"))
    eventually(lambda: running.row("b")["cause"] == "warming up")
    assert running.states()["b"] == "starting"
    assert running.row("c")["cause"] == "disk full"


def test_program_that_beat_over_its_socket_must_go_on(mesh):
    running = mesh(notifier("a", "READY=1", "WATCHDOG=1")).up()
    [stopping] = running.wait_state("a", "stopping")
    assert stopping["cause"] == "watchdog"


def test_notify_sockets_are_the_owners_and_vanish(mesh):
    running = mesh(notifier("a", "READY=1")).up()
    path = Path(running.remote.run["runtime_dir"]) / "notify-0"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    running.remote.down()
    assert not path.exists()


def test_tokens_are_there_before_each_life_of_the_program(mesh, tmp_path):
    path = tmp_path / "tokens.json"
    script = f"cat {path}; ls -l {path} | cut -c1-10; exec sleep 60"
    running = mesh(
        program("a", command=(SH, "-c", script), tokens=str(path), audiences=("b", "bus")),
        program("b", "wait"),
    ).up()
    expected = {"b": "a for b", "bus": "a for bus"}
    eventually(lambda: "-rw-------" in running.log("a"))
    assert json.loads(running.log("a").partition("}")[0] + "}") == expected
    before = path.stat().st_ino
    running.remote.restart(["a"])
    assert path.stat().st_ino != before
    assert token_file.RENEW_S < 60


def test_explanation_tells_what_a_program_waits_for(mesh):
    from mesh.config import Dependency

    running = mesh(
        program("a", "never_ready"),
        program("b", "wait", depends_on={"a": Dependency("service_healthy")}),
    ).begin()
    eventually(running.answers)
    eventually(lambda: told(running, "b")["waits_for"])
    [unmet] = told(running, "b")["waits_for"]
    assert (unmet["name"], unmet["condition"]) == ("a", "service_healthy")
    assert unmet["state"] == "starting"


def test_explanation_tells_the_last_exit_and_the_next_try(mesh):
    running = mesh(program("a", "leave", "3")).begin()
    eventually(running.answers)
    running.wait_state("a", "failed")
    found = told(running, "a")
    assert found["last_exit"]["how"] == "exit 3"
    assert (found["failures"], found["failures_max"]) == (5, 5)
    assert found["next_try_in_s"] is None
