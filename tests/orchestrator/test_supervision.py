"""Real processes: starting, stopping, crashing, and what is left behind (nothing)."""

from __future__ import annotations

import os
import signal
import socket
import threading
from pathlib import Path
from time import monotonic

import pytest

from mesh.config import Dependency, RestartPolicy
from mesh.errors import NotFound, NotRunning, ProgramFailed
from mesh.orchestrator import state
from tests.orchestrator.harness import LONG_S, alive, end_of, eventually, program, server

pytestmark = pytest.mark.e2e

USUAL_GRACE_S = 10.0
"""Where nobody says another."""

ONE_AFTER_THE_OTHER_S = 10.0
"""For ten programs that take a second each."""


def left_behind(running):
    """Files that only a running mesh has."""
    found = [path.name for path in (running.data / "run").iterdir()]
    return [*found, *(["sockets"] if state.runtime_dir(running.data).exists() else [])]


# starting


def test_program_starts_answers_and_stops(mesh):
    running = mesh(program("a", "serve", port=0)).up()
    assert running.states() == {"a": "ready"}
    assert running.get("a") == str(running.pid("a"))
    [stopped] = running.remote.down()
    assert (stopped["name"], stopped["how"]) == ("a", "graceful")
    outcome = running.outcome()
    assert (outcome["reason"], outcome["failed"]) == ("down", [])
    assert running.family() == []
    assert left_behind(running) == []


def test_entry_finds_its_own_world_and_nothing_of_the_supervisors(mesh, monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    asker = program("a", "report", port=0, peers=("peer-one",), environment={"MINE": "1"})
    running = mesh(program("peer-one", "wait", port=0), asker).up()
    found = running.noted("a")
    said = found["environment"]
    assert found["descriptors"] == [0, 1, 2, 3, 4]
    assert (said["LISTEN_FDS"], said["LISTEN_PID"]) == ("1", str(running.pid("a")))
    assert said["MESH_NOTIFY_FD"] == "4"
    assert said["PORT"] == str(running.port("a"))
    assert said["HOST"] == "127.0.0.1"
    assert said["MESH_SERVICE"] == "a"
    assert said["MESH_URL_PEER_ONE"] == running.row("peer-one")["url"]
    assert said["MINE"] == "1"
    assert "NOTIFY_SOCKET" not in said
    assert found["session"]
    assert found["umask"] == 0o077
    assert found["parent"] == running.process.pid
    assert found["ignored"] == []
    assert found["cwd"].endswith("programs")
    assert found["argv"] == ["a"]


def test_forks_of_one_starter_draw_different_numbers(mesh):
    running = mesh(
        program("a", "chance"), program("b", "chance"), preload=["random", "tempfile"]
    ).up()
    drawn = [running.noted(name) for name in ("a", "b")]
    assert drawn[0]["number"] != drawn[1]["number"]
    assert drawn[0]["name"] != drawn[1]["name"]


def test_command_that_listens_itself_is_ready_once_it_accepts(mesh):
    running = mesh(server("web")).up()
    assert running.states() == {"web": "ready"}
    assert "server.py" in running.get("web")


def test_command_without_port_is_ready_once_it_runs(mesh):
    running = mesh(program("tick", command=("sleep", "1000"))).up()
    assert running.states() == {"tick": "ready"}


def test_command_that_cannot_be_run_fails_at_once_and_says_why(mesh):
    running = mesh(program("a", command=("no-such-program", "x"))).up()
    row = running.row("a")
    assert (row["state"], row["restarts"]) == ("failed", 0)
    assert row["cause"] == "cannot run no-such-program: No such file or directory"


def test_dependents_start_after_what_they_wait_for(mesh):
    healthy = {"a": Dependency("service_healthy")}
    running = mesh(
        program("c", "wait", depends_on={"b": Dependency("service_healthy")}),
        program("b", "wait", depends_on=healthy),
        program("a", "wait"),
    ).begin()
    eventually(running.answers)
    seen = running.wait_for(lambda states: set(states.values()) == {"ready"})
    assert [one["name"] for one in seen if one["new"] == "ready"] == ["a", "b", "c"]


def test_dependent_of_a_job_starts_when_the_job_is_done(mesh):
    done = {"job": Dependency("service_completed_successfully")}
    running = mesh(program("job", "done"), program("a", "wait", depends_on=done)).up()
    assert running.states() == {"job": "stopped", "a": "ready"}
    assert running.row("job")["cause"] == "exit 0"


def test_dependent_fails_with_what_it_needs_and_starts_when_that_is_mended(mesh, tmp_path):
    flaky = program("a", "flaky", str(tmp_path / "seen"), restart=RestartPolicy("no"))
    running = mesh(
        flaky, program("b", "wait", depends_on={"a": Dependency("service_healthy")})
    ).up()
    running.wait_for(lambda states: set(states.values()) == {"failed"})
    assert running.row("b")["cause"] == "a failed"
    running.remote.start(["a"])
    running.wait_for(lambda states: set(states.values()) == {"ready"})


def test_program_that_never_gets_ready_is_killed_and_fails(mesh):
    policy = RestartPolicy("on-failure", 1)
    running = mesh(program("a", "never_ready", start_timeout_s=0.3, restart=policy)).up()
    row = running.row("a")
    assert (row["state"], row["cause"]) == ("failed", "start timeout; 1 failure in 60 s")


# crashing


def test_crash_loop_ends_in_failed_while_others_serve(mesh):
    policy = RestartPolicy("on-failure", 3)
    running = mesh(program("bad", "crash", restart=policy), program("a", "serve", port=0)).begin()
    eventually(running.answers)
    running.wait_state("bad", "failed")
    row = running.row("bad")
    assert (row["restarts"], row["cause"]) == (2, "exit 1; 3 failures in 60 s")
    assert running.log("bad").count("RuntimeError: boom") == 3
    assert running.get("a") == str(running.pid("a"))


def test_failure_carries_the_last_lines_of_the_last_life(mesh):
    twice = RestartPolicy("on-failure", 2)
    running = mesh(program("bad", "crash", restart=twice), start=[]).up()
    watching = running.remote.watch(timeout_s=LONG_S)
    next(watching)
    running.remote.start(["bad"])
    failed = next(change for change in watching if change["new"] == "failed")
    assert failed["evidence"].count("about to fail") == 1
    assert failed["evidence"][-1] == "RuntimeError: boom"
    with pytest.raises(ProgramFailed, match="did not come back") as caught:
        running.remote.restart(["bad"])
    assert caught.value.evidence[-1] == "RuntimeError: boom"


def test_exit_78_is_not_tried_again(mesh):
    running = mesh(program("a", "leave", "78")).up()
    row = running.row("a")
    assert (row["state"], row["cause"], row["restarts"]) == ("failed", "exit 78", 0)


def test_killed_program_comes_back_and_refuses_nobody(mesh):
    running = mesh(program("a", "serve", port=0, restart=RestartPolicy("always"))).up()
    port, ended = running.port("a"), threading.Event()
    counts = {"answered": 0, "cut": 0, "refused": 0}

    def call():
        while not ended.is_set():
            try:
                with socket.create_connection(("127.0.0.1", port), LONG_S) as connection:
                    connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                    counts["answered" if connection.recv(4096) else "cut"] += 1
            except ConnectionRefusedError:
                counts["refused"] += 1
            except (ConnectionResetError, BrokenPipeError):
                counts["cut"] += 1

    callers = [threading.Thread(target=call) for _ in range(2)]
    for caller in callers:
        caller.start()
    for _ in range(5):
        before, answered = running.pid("a"), counts["answered"]
        os.kill(before, signal.SIGKILL)
        eventually(lambda before=before: running.pid("a") not in {before, None})
        eventually(lambda answered=answered: counts["answered"] > answered + 10)
    ended.set()
    for caller in callers:
        caller.join()
    assert counts["refused"] == 0
    assert counts["cut"] <= 5 * 2
    assert running.row("a")["restarts"] == 5


def test_kill_by_request_is_no_crash(mesh):
    running = mesh(program("a", "serve", port=0)).up()
    for _ in range(6):
        before = running.pid("a")
        running.remote.kill(["a"], "KILL")
        eventually(lambda before=before: running.pid("a") not in {before, None})
        running.wait_state("a", "ready")
    assert running.row("a")["restarts"] == 0


def test_frozen_program_is_aborted_and_replaced(mesh):
    running = mesh(program("a", "beat")).up()
    before = running.pid("a")
    os.kill(before, signal.SIGSTOP)
    running.wait_state("a", "stopping")
    assert running.row("a")["cause"] == "watchdog"
    running.wait_state("a", "ready")
    assert not alive(before)


def test_degraded_is_what_a_program_says_of_itself(mesh):
    running = mesh(program("a", "mood", "stream product is fenced")).up()
    running.wait_state("a", "degraded")
    assert running.row("a")["cause"] == "stream product is fenced"


def test_crashed_programs_group_does_not_outlive_it(mesh):
    running = mesh(program("a", "parent")).up()
    child = running.noted("a")["child"]
    os.kill(running.pid("a"), signal.SIGKILL)
    end_of(child)


def test_orphans_are_reaped_and_take_nobodys_exit_status(mesh):
    running = mesh(program("a", "litter", "100"), program("b", "leave", "78")).up()
    children = Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children")

    eventually(lambda: len(children.read_text().split()) == 2)
    assert running.states() == {"a": "ready", "b": "failed"}
    assert running.row("b")["cause"] == "exit 78"


# stopping


def test_stop_kills_the_whole_group_at_the_deadline(mesh):
    running = mesh(program("a", "stubborn", stop_grace_s=0.5), program("b", "wait")).up()
    leader, child = running.pid("a"), running.noted("a")["child"]
    [stopped] = running.remote.stop(["a"])
    assert not alive(leader)
    assert not alive(child)
    assert stopped["how"] == "killed"
    assert 0.5 <= stopped["after_s"] < USUAL_GRACE_S
    assert running.states() == {"a": "stopped", "b": "ready"}


def test_stop_returns_only_when_the_group_is_empty(mesh):
    running = mesh(program("a", "leaves_child_behind", stop_grace_s=0.5)).up()
    child = running.noted("a")["child"]
    [stopped] = running.remote.stop(["a"])
    assert not alive(child)
    assert stopped["how"] == "killed"


def test_down_takes_daemons_along(mesh):
    running = mesh(program("a", "daemon")).up()
    child = running.noted("a")["child"]
    running.remote.down()
    assert not alive(child)
    assert running.outcome()["reason"] == "down"


def test_slow_programs_stop_side_by_side(mesh):
    running = mesh(*(program(f"p{n}", "slow") for n in range(10))).up()
    begun_s = monotonic()
    stopped = running.remote.down()
    assert 1.0 <= monotonic() - begun_s < ONE_AFTER_THE_OTHER_S
    assert {one["how"] for one in stopped} == {"graceful"}


def test_programs_stop_before_what_they_depend_on(mesh):
    running = mesh(
        program("a", "wait"),
        program("b", "wait", depends_on={"a": Dependency()}),
        program("c", "wait", peers=("b",)),
    ).up()
    running.remote.down()
    assert [one["name"] for one in running.outcome()["stopped"]] == ["c", "b", "a"]


def test_down_keeps_one_deadline_for_all_levels(mesh):
    running = mesh(
        program("a", "stubborn"),
        program("b", "stubborn", depends_on={"a": Dependency()}),
        program("c", "stubborn", depends_on={"b": Dependency()}),
    ).up()
    begun_s = monotonic()
    stopped = running.remote.down(0.5)
    assert 1.5 <= monotonic() - begun_s < USUAL_GRACE_S
    assert {one["how"] for one in stopped} == {"killed"}


def test_stopped_program_refuses_and_gets_its_port_back(mesh):
    running = mesh(program("a", "serve", port=0)).up()
    port = running.port("a")
    running.remote.stop(["a"])
    with pytest.raises(ConnectionRefusedError):
        running.get("a")
    running.remote.start(["a"])
    running.wait_state("a", "ready")
    assert running.port("a") == port
    assert running.get("a") == str(running.pid("a"))


def test_restart_gives_a_new_process_on_the_same_port(mesh):
    running = mesh(program("a", "serve", port=0)).up()
    before, port = running.pid("a"), running.port("a")
    running.remote.restart(["a"])
    assert running.pid("a") != before
    assert running.port("a") == port
    assert running.row("a")["restarts"] == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_first_signal_stops_gracefully(mesh, number):
    running = mesh(program("a", "wait")).up()
    running.interrupt(number)
    outcome = running.outcome()
    assert outcome["reason"] == "signal"
    assert [one["how"] for one in outcome["stopped"]] == ["graceful"]
    assert left_behind(running) == []


def test_second_interrupt_kills_at_once(mesh):
    running = mesh(program("a", "stubborn"), program("b", "stubborn")).up()
    running.interrupt()
    running.wait_for(lambda states: set(states.values()) == {"stopping"})
    begun_s = monotonic()
    running.interrupt()
    outcome = running.outcome()
    assert monotonic() - begun_s < USUAL_GRACE_S
    assert {one["how"] for one in outcome["stopped"]} == {"killed"}


def test_mesh_ends_by_itself_when_nothing_is_left_to_run(mesh):
    running = mesh(program("a", "done"), program("b", "leave", "78"), linger=False).begin()
    outcome = running.outcome()
    assert (outcome["reason"], outcome["failed"]) == ("ended", ["b"])


# the supervisor's own death, and the starter's


def test_nothing_survives_the_supervisor(mesh):
    running = mesh(
        program("a", "serve", port=0), program("b", "parent"), program("c", "stubborn"), server("d")
    ).up()
    assert len(running.family()) == 8
    running.crash()
    eventually(lambda: not running.family())
    with pytest.raises(NotRunning):
        _ = running.remote
    again = running.up()
    assert set(again.states().values()) == {"ready"}


def test_dead_starter_is_replaced_and_nobody_notices(mesh):
    running = mesh(program("a", "parent"), program("b", "serve", port=0)).up()
    pids = {name: running.pid(name) for name in "ab"}
    grandchild = running.noted("a")["child"]
    [starter] = set(running.family()) - {running.process.pid, grandchild, *pids.values()}
    os.kill(starter, signal.SIGKILL)
    running.remote.restart(["b"])
    assert running.pid("a") == pids["a"]
    running.crash()
    eventually(lambda: not running.family())


def test_suspended_starter_is_replaced_without_killing_anybody(mesh):
    running = mesh(program("a", "wait"), program("b", "wait")).up()
    pids = {name: running.pid(name) for name in "ab"}
    [starter] = set(running.family()) - {running.process.pid, *pids.values()}
    os.kill(starter, signal.SIGSTOP)
    running.remote.restart(["b"])
    assert running.pid("a") == pids["a"]
    assert not alive(starter)


def test_preload_that_cannot_be_imported_is_reported_and_harmless(mesh):
    running = mesh(program("a", "wait"), preload=["json.tool", "no.such.module"]).up()
    assert running.states() == {"a": "ready"}
    assert "ModuleNotFoundError: No module named 'no'" in running.log("mesh")


# one mesh a data folder, and ports


def test_second_start_is_refused_with_the_holders_pid(mesh, tmp_path):
    first = mesh(program("a", "wait")).up()
    second = mesh(program("a", "wait")).begin()
    refused = second.outcome()
    assert refused["error"] == "AlreadyRunning"
    assert refused["detail"] == f"a mesh runs here already (pid {first.process.pid})"
    assert second.family() == []
    assert first.states() == {"a": "ready"}


def test_of_many_starts_at_once_exactly_one_wins(mesh):
    all_of_them = [mesh(program("a", "wait")).begin() for _ in range(8)]
    eventually(lambda: sum(one.process.poll() is not None for one in all_of_them) == 7)
    [winner] = [one for one in all_of_them if one.process.poll() is None]
    for loser in all_of_them:
        if loser is not winner:
            refused = loser.outcome()
            assert refused["error"] == "AlreadyRunning"
            assert refused["facts"]["pid"] == winner.process.pid
    eventually(winner.answers)
    winner.wait_state("a", "ready")


def test_port_taken_names_its_holder_and_starts_nothing(mesh):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = mesh(program("a", "wait"), program("b", "serve", port=port)).begin().outcome()
        assert refused["error"] == "PortTaken"
        assert refused["facts"]["pid"] == os.getpid()
        assert refused["hint"] == "mesh up --free-ports"
        assert f"port {port} of b is taken by pid {os.getpid()}" in refused["detail"]


def test_free_ports_ignore_what_is_configured(mesh):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        running = mesh(program("b", "serve", port=port), free_ports=True).up()
        assert running.port("b") != port
        assert running.get("b") == str(running.pid("b"))


def test_only_what_is_asked_for_is_started(mesh):
    depends = {"a": Dependency("service_healthy")}
    running = mesh(program("a", "wait"), program("b", "wait", depends_on=depends), start=[]).up()
    assert running.states() == {"a": "stopped", "b": "stopped"}
    running.remote.start(["b"])
    running.wait_for(lambda states: set(states.values()) == {"ready"})


def test_cycle_is_refused_before_anything_is_made(mesh):
    running = mesh(
        program("a", "wait", depends_on={"b": Dependency()}),
        program("b", "wait", depends_on={"a": Dependency()}),
    ).begin()
    assert running.outcome()["error"] == "ConfigInvalid"
    assert not running.data.exists()


# what a long life must not cost


def test_restarts_leak_no_descriptor(mesh):
    running = mesh(program("a", "serve", port=0), program("b", "wait")).up()

    def open_now():
        return len([*Path(f"/proc/{running.process.pid}/fd").iterdir()])

    running.remote.restart(["a", "b"])
    before = open_now()
    for _ in range(10):
        running.remote.restart(["a", "b"])
    running.remote.stop(["b"])
    running.remote.start(["b"])
    running.wait_state("b", "ready")
    eventually(lambda: open_now() <= before)  # the last question's connection may linger


def test_unknown_names_are_refused_with_a_suggestion_and_nothing_happens(mesh):
    running = mesh(program("order", "wait"), program("product", "wait")).up()
    pid = running.pid("product")
    with pytest.raises(NotFound, match="no service 'ordr'") as caught:
        running.remote.stop(["product", "ordr"])
    assert caught.value.hint == "did you mean order?"
    assert running.pid("product") == pid
