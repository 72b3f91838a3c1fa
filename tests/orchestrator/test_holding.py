"""Programs held at rest for whoever asked, on a real supervisor and its socket."""

from __future__ import annotations

import json
import socket
import threading

import pytest

from mesh.errors import Broken, NotRunning
from tests.orchestrator.harness import program

pytestmark = pytest.mark.e2e


def test_mesh_in_the_foreground_does_not_end_while_all_it_runs_is_held(mesh):
    running = mesh(program("a", "wait"), program("b", "wait"), linger=False).up()
    with running.remote.hold(["a", "b"], "being restored") as again:
        assert again == ["a", "b"]
        assert set(running.states().values()) == {"stopped"}
    running.wait_for(lambda states: set(states.values()) == {"ready"})


@pytest.mark.parametrize("method", ["hold", "lend"])
def test_mesh_that_dies_unasked_of_is_said_to_have_gone(mesh, tmp_path, method):
    """Its death before it has read what it is asked resets the connection."""
    remote = mesh(program("a", "wait")).up().remote
    remote.run["control"] = str(tmp_path / "door")
    asked = {"hold": lambda: remote.hold(["a"], "why"), "lend": lambda: remote.lend("a")}[method]
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(remote.run["control"])
        door.listen()

        def die():
            connection, _ = door.accept()
            connection.recv(1)
            connection.close()

        dying = threading.Thread(target=die)
        dying.start()
        with pytest.raises(NotRunning, match="the mesh went away"), asked():
            pass
        dying.join()


def test_nothing_starts_on_files_that_cannot_be_brought_to_their_end(mesh):
    running = mesh(program("a", "wait")).up()
    moved = running.data / "run" / "old"
    with running.remote.hold(["a"], "being restored"):
        moved.write_text("old")
        plan = running.data / "run" / "replacing.json"
        plan.write_text(json.dumps([[str(moved), str(running.data / "nowhere" / "old")]]))
    assert running.states() == {"a": "stopped"}
    with pytest.raises(Broken, match="a restore was cut off"):
        running.remote.start(["a"])
    (running.data / "nowhere").mkdir()
    running.remote.start(["a"])
    assert not moved.exists()
    running.wait_state("a", "ready")
