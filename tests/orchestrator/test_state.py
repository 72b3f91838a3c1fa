from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mesh.errors import AlreadyRunning, Broken
from mesh.orchestrator import state


@pytest.fixture
def data(tmp_path):
    (tmp_path / "data" / "run").mkdir(parents=True)
    return tmp_path / "data"


@pytest.fixture(autouse=True)
def runtime(tmp_path_factory, monkeypatch):
    """Runtime folders lie here, not in the user's."""
    folder = tmp_path_factory.mktemp("x")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    return folder


def described(data, **changes):
    run = {
        "schema": "mesh.run/1",
        "project": "shop",
        "pid": os.getpid(),
        "start_time": state.start_time(os.getpid()),
        "boot_id": state.boot_id(),
        "run_id": "run_1",
        "runtime_dir": "",
        "control": "",
        "config_file": "mesh.yaml",
        "data_dir": str(data),
        "started_at": "",
        "options": [],
        "services": {},
    }
    return run | changes


def test_runtime_dir_is_the_same_by_every_path_to_the_data(data, tmp_path, runtime):
    (tmp_path / "link").symlink_to(data)
    found = state.runtime_dir(data)
    assert found.parent == runtime
    assert state.runtime_dir(tmp_path / "link") == found
    assert state.runtime_dir(tmp_path / "other") != found


def test_runtime_dir_is_in_tmp_when_the_users_own_is_too_deep(data, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/" + "x" * 70)
    assert str(state.runtime_dir(data)).startswith(f"/tmp/mesh-{os.getuid()}-")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "relative")
    assert str(state.runtime_dir(data)).startswith(f"/tmp/mesh-{os.getuid()}-")


def test_runtime_dir_is_made_private_and_taken_away(data):
    with state.made_runtime_dir(data) as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        with socket.socket(socket.AF_UNIX) as door:
            (folder / "bus").mkdir()
            door.bind(str(folder / "bus" / "bus.sock"))
    assert not folder.exists()


def test_stale_sockets_and_loose_modes_of_a_killed_mesh_are_put_right(data):
    folder = state.runtime_dir(data)
    folder.mkdir(mode=0o755)
    (folder / "bus").mkdir()
    with socket.socket(socket.AF_UNIX) as door, socket.socket(socket.AF_UNIX) as fed:
        door.bind(str(folder / "control.sock"))
        fed.bind(str(folder / "bus" / "bus.feed"))
    with state.made_runtime_dir(data):
        assert not [*folder.iterdir()]
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_runtime_dir_refuses_a_link_that_somebody_put_there(data, tmp_path):
    (tmp_path / "theirs").mkdir()
    state.runtime_dir(data).symlink_to(tmp_path / "theirs")
    with (
        pytest.raises(Broken, match="not a folder of this user's own"),
        state.made_runtime_dir(data),
    ):
        pass


def test_lock_is_held_by_one_and_names_it(data):
    with state.locked(data):
        with pytest.raises(AlreadyRunning, match=rf"\(pid {os.getpid()}\)"), state.locked(data):
            pass
        assert stat.S_IMODE(state.lock_path(data).stat().st_mode) == 0o600
    assert not state.lock_path(data).exists()
    with state.locked(data):
        pass


def test_lock_file_of_a_killed_mesh_is_no_lock(data):
    state.lock_path(data).write_text("1")
    with state.locked(data):
        assert state.lock_path(data).read_text() == str(os.getpid())


def test_lock_survives_a_race_of_processes_with_one_holder_at_a_time(data, tmp_path):
    """Each holder checks that it is alone; unlinking the file at the end must not make two."""
    code = f"""
import os, pathlib, sys
sys.path.insert(0, {str(Path.cwd())!r})
from mesh.errors import AlreadyRunning
from mesh.orchestrator import state
alone = pathlib.Path({str(tmp_path / "alone")!r})
held = 0
while held < 200:
    try:
        with state.locked(pathlib.Path({str(data)!r})):
            os.close(os.open(alone, os.O_CREAT | os.O_EXCL))
            alone.unlink()
            held += 1
    except AlreadyRunning:
        pass
"""
    racers = [
        subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) for _ in range(3)
    ]
    for racer in racers:
        assert racer.communicate(timeout=60)[1] == b""
        assert racer.returncode == 0


def test_description_is_read_back_while_its_process_lives(data):
    with state.published(described(data)):
        assert state.running(data)["project"] == "shop"
        assert stat.S_IMODE(state.run_path(data).stat().st_mode) == 0o600
        assert [path.name for path in (data / "run").iterdir()] == ["mesh.json"]
    assert state.running(data) is None


@pytest.mark.parametrize(
    "change",
    [{"boot_id": "another"}, {"start_time": 1}, {"pid": 2**22 + 1}, {"schema": "mesh.run/2"}],
)
def test_description_of_another_life_is_not_believed(data, change):
    with state.published(described(data, **change)):
        assert state.running(data) is None


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"schema":"mesh.run/1"', "\0"])
def test_damaged_description_is_no_mesh(data, content):
    state.run_path(data).write_text(content)
    assert state.running(data) is None


def test_description_of_a_zombie_is_not_believed(data):
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert state.start_time(child.pid) is None
    child.wait()


def test_state_and_remote_import_the_standard_library_only():
    code = (
        "import sys; import mesh.orchestrator.remote;"
        "print([m for m in ('msgspec','aiohttp','zmq','rich','asyncio','click') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
