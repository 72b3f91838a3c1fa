"""The control socket from both ends: real supervisor, real socket."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
from pathlib import Path

import pytest

from mesh.errors import DeadlineExceeded, InvalidInput, NotFound, NotRunning
from mesh.orchestrator import control
from mesh.orchestrator.remote import Remote
from tests.orchestrator.harness import eventually, program

pytestmark = pytest.mark.e2e


@pytest.fixture
def running(mesh):
    return mesh(program("order", "wait", port=0), program("bus", "wait")).up()


def connected(running):
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(30.0)
    connection.connect(running.remote.run["control"])
    return connection


def say(running, raw):
    """Send these bytes; the answer's line."""
    with connected(running) as connection, connection.makefile("rb") as answers:
        with contextlib.suppress(BrokenPipeError):  # refused before it was asked
            connection.sendall(raw)
        return json.loads(answers.readline())


def test_socket_and_its_folder_are_for_their_owner_only(running):
    path = Path(running.remote.run["control"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE((running.data / "run" / "mesh.json").stat().st_mode) == 0o600
    assert stat.S_IMODE((running.data / "logs" / "order.log").stat().st_mode) == 0o600


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_is_refused_even_if_the_modes_were_open(running):
    path = Path(running.remote.run["control"])
    path.parent.chmod(0o755)
    path.chmod(0o666)
    pid = os.fork()
    if pid == 0:
        os.setuid(65534)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            answer = connection.recv(4096)
            os._exit(0 if b'"type":"Forbidden"' in answer else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"{}\n", "InvalidInput"),
        (b"nonsense\n", "InvalidInput"),
        (b"\xff\n", "InvalidInput"),
        (b"[" * 5000 + b"\n", "InvalidInput"),
        (b'{"id":1,"method":"status","params":{"x":1}}\n', "InvalidInput"),
        (b'{"id":1,"method":"stop","params":{"names":"order"}}\n', "InvalidInput"),
        (b'{"id":1,"method":"watch","params":{"x":1}}\n', "InvalidInput"),
        (b'{"id":1,"method":"explode"}\n', "NotFound"),
        (b"x" * (control.REQUEST_BYTES_MAX + 1), "TooLarge"),
    ],
)
def test_bad_request_is_answered_by_what_is_wrong_with_it(running, raw, kind):
    assert say(running, raw)["error"]["type"] == kind
    assert running.states() == {"order": "ready", "bus": "ready"}


def test_connection_takes_one_request_after_another(running):
    with connected(running) as connection, connection.makefile("rb") as answers:
        for number in (7, 8):
            request = {"id": number, "method": "status"}
            connection.sendall(json.dumps(request).encode() + b"\n")
            assert json.loads(answers.readline())["id"] == number


def test_only_so_many_connections_are_served_and_then_again(running):
    held = [connected(running) for _ in range(control.CLIENTS_MAX)]
    eventually(lambda: say(running, b"\n")["error"]["type"] == "Overloaded")
    for connection in held:
        connection.close()
    eventually(lambda: say(running, b"\n")["error"]["type"] == "InvalidInput")


def test_idle_connections_do_not_hold_up_the_end(running):
    with connected(running) as idle:
        running.remote.down()
        assert idle.recv(1) == b""
    assert running.outcome()["reason"] == "down"


def test_token_is_minted_for_the_operator_and_for_services_only(running):
    assert running.remote.token("operator", "order") == "operator for order"
    assert running.remote.token("order", "bus") == "order for bus"
    for subject, audience in [("operator", "ordre"), ("mallory", "order")]:
        with pytest.raises(NotFound):
            running.remote.token(subject, audience)


def test_kill_refuses_what_is_no_signal(running):
    with pytest.raises(InvalidInput, match="no signal 'BOOM'"):
        running.remote.kill(["order"], "BOOM")


def test_watch_tells_the_status_then_changes_then_ends_with_the_mesh(running):
    watching = running.remote.watch(timeout_s=30.0)
    first = next(watching)
    assert first["schema"] == "mesh.ps/1"
    running.remote.stop(["order"])
    assert [next(watching)["new"] for _ in range(2)] == ["stopping", "stopped"]
    running.remote.down()
    assert [(change["name"], change["new"]) for change in watching] == [
        ("bus", "stopping"),
        ("bus", "stopped"),
    ]


def test_watch_ends_at_its_deadline(running):
    watching = running.remote.watch(timeout_s=2.0)
    next(watching)
    with pytest.raises(DeadlineExceeded):
        next(watching)


def test_down_returns_when_everything_is_gone(running):
    remote, pid = running.remote, running.process.pid
    remote.down()
    assert Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    assert [*(running.data / "run").iterdir()] == []
    assert not Path(remote.run["runtime_dir"]).exists()


def test_remote_of_a_killed_mesh_is_not_running(running):
    remote = running.remote
    running.crash()
    with pytest.raises(NotRunning):
        remote.status()
    with pytest.raises(NotRunning):
        Remote.find(running.data)


def test_suspended_supervisor_is_a_deadline_not_a_hang(running, monkeypatch):
    remote = running.remote
    os.kill(running.process.pid, 19)
    try:
        with monkeypatch.context() as hasty:
            hasty.setattr("mesh.orchestrator.remote.ANSWER_S", 0.3)
            with pytest.raises(DeadlineExceeded):
                remote.status()
    finally:
        os.kill(running.process.pid, 18)
    assert remote.status()["project"] == "test"
