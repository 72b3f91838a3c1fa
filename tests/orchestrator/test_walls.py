"""What a program may touch, worked out; and the walls themselves around a process of ours."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from mesh.config import Sandbox
from mesh.errors import ProgramFailed
from mesh.orchestrator import landlock, walls
from mesh.orchestrator.contract import Program

needs_landlock = pytest.mark.skipif(not landlock.abi(), reason="this kernel has no Landlock")
HERE = {"PATH": os.environ["PATH"]}


@pytest.fixture
def project(tmp_path):
    """A project with its data, and a link into them."""
    for folder in ("data/order", "data/user", "src/app", "assets"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "main.py").touch()
    (tmp_path / "inside").symlink_to("data/user")
    (tmp_path / "elsewhere").symlink_to("/usr")
    return tmp_path


def test_folder_is_granted_around_the_data_in_it(project):
    granted, unlisted = walls.around(str(project), [str(project / "data")])
    own = {str(project / name) for name in ("src", "assets", "main.py")}
    assert set(granted) == own | {"/usr"}
    assert unlisted == [str(project)]


def test_folder_without_data_is_granted_whole(project):
    assert walls.around(str(project / "src"), [str(project / "data")]) == (
        [str(project / "src")],
        [],
    )


def test_nothing_hidden_is_granted(project):
    hidden = [str(project / "data")]
    for path in ("data", "data/user", "inside"):
        assert walls.around(str(project / path), hidden) == ([], [])


def test_folders_named_alike_are_told_apart(project):
    (project / "data-of-mine").mkdir()
    granted, _ = walls.around(str(project / "data-of-mine"), [str(project / "data")])
    assert granted == [str(project / "data-of-mine")]


def test_folder_of_too_many_entries_is_refused(project, monkeypatch):
    monkeypatch.setattr(walls, "ENTRIES_MAX", 4)
    with pytest.raises(ProgramFailed, match="more than 4 entries"):
        walls.around(str(project), [str(project / "data")])


def program(**members):
    return Program(**{"name": "order", "entry": "m:f", "sandbox": Sandbox(), **members})


@needs_landlock
@pytest.mark.parametrize(
    ("environment", "ports"),
    [
        ({"MESH_URL_USER": "http://127.0.0.1:7002"}, [7002]),
        ({"MESH_EVENTS_URL": "http://127.0.0.1:4001/events"}, [4001]),
        ({"MESH_BUS_URL": "zmq:///tmp/mesh-0-0123456789ab"}, []),
        ({"DATABASE_URL": "postgresql://me:secret@db.example/shop"}, [5432]),
        ({"DATABASE_URL": "sqlite://"}, []),
        (
            {"SEARCH": "https://a.example http://b.example:9200,http://c.example:9201"},
            [443, 9200, 9201],
        ),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"}, [4318]),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "localhost:4317"}, [4317]),
        ({"OTEL_SERVICE_NAME": "order"}, []),
        ({"FROM_THE_SHELL": "http://127.0.0.1:22"}, []),
        ({"PORT": "7004"}, [7004]),
        ({"MESH_URL_USER": "http://127.0.0.1:99999999"}, []),
    ],
)
def test_program_connects_to_the_ports_in_its_urls(environment, ports):
    own = {name: "" for name in environment if name in {"DATABASE_URL", "SEARCH"}}
    asking = program(sandbox=Sandbox(network="peers"), environment=own)
    planned = walls.planned(asking, HERE | environment, Path("/l"))
    assert planned is not None
    assert planned["grants"]["connect"] == ports


@needs_landlock
def test_program_listens_on_its_own_port_alone_if_it_listens_itself():
    closed = Sandbox(network="peers")
    environment = HERE | {"PORT": "7004"}
    for socket_is, ports in (("own", [7004]), ("inherit", [])):
        planned = walls.planned(program(sandbox=closed, socket=socket_is), environment, Path("/l"))
        assert planned is not None
        assert planned["grants"]["bind"] == ports
    opened = walls.planned(program(), environment, Path("/l"))
    assert opened is not None
    assert (opened["grants"]["bind"], opened["grants"]["connect"]) == (None, None)


@needs_landlock
def test_what_is_installed_with_a_program_is_granted_with_it(tmp_path):
    tool = tmp_path / "tool" / "bin" / "run"
    tool.parent.mkdir(parents=True)
    tool.touch(mode=0o755)
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "run").symlink_to(tool)
    environment = {"PATH": str(tmp_path / "links")}
    planned = walls.planned(program(entry=None, command=("run",)), environment, Path("/l"))
    assert planned is not None
    assert str(tmp_path / "tool") in planned["grants"]["read"]
    assert str(tmp_path) not in planned["grants"]["read"]


def test_program_whose_sandbox_is_off_has_no_walls():
    assert walls.planned(program(sandbox=Sandbox("off")), HERE, Path("/l")) is None
    assert walls.planned(program(sandbox=None), HERE, Path("/l")) is None
    assert walls.shown(program(sandbox=Sandbox("off"))) == "off"
    assert walls.shown(program(sandbox=None)) is None


def test_kernel_without_landlock_stops_only_who_requires_it(monkeypatch):
    monkeypatch.setattr(landlock, "abi", lambda: 0)
    assert walls.planned(program(), HERE, Path("/l")) is None
    assert walls.shown(program()) == "none"
    assert walls.check([program(), program(name="b", sandbox=Sandbox("off"))]) == ("order",)
    for ask in (
        lambda: walls.check([program(sandbox=Sandbox("required"))]),
        lambda: walls.planned(program(sandbox=Sandbox("required")), HERE, Path("/l")),
    ):
        with pytest.raises(ProgramFailed, match="order: not to run without a sandbox"):
            ask()


def test_branch_of_a_process_is_the_child_it_comes_from():
    line = "import os; os.fork() or print(os.getpid(), flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", line], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        grandchild = int(child.stdout.readline())
        assert walls.branch(grandchild) == child.pid
        assert walls.branch(child.pid) == child.pid
        assert walls.branch(os.getppid()) is None
        child.kill()
    assert walls.branch(child.pid) == child.pid, "gone: it could have been anybody's"


@needs_landlock
@pytest.mark.parametrize("left", [0, 1])
def test_walls_stand_around_a_process_and_its_children(tmp_path, left):
    """`left` is what is granted of the ports: one, or none at all."""
    (tmp_path / "own").mkdir()
    (tmp_path / "other").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        script = dedent(f"""
            import os, socket, subprocess, sys
            from mesh.orchestrator import landlock
            landlock.enter({{
                "list": ["other"], "read": ["/usr", "/lib", "/lib64", "/bin", sys.base_prefix],
                "write": ["own"], "devices": ["/dev/null"],
                "connect": [{port}] if {left} else [], "bind": [],
            }})
            def tries(work):
                try:
                    work()
                except OSError as error:
                    return type(error).__name__
                return "done"
            print(tries(lambda: open("own/a", "w").close()))
            print(tries(lambda: os.rename("own/a", "own/b")))
            print(tries(lambda: open("other/a", "w").close()))
            print(tries(lambda: os.rename("own/b", "other/b")))
            print(tries(lambda: os.listdir("other")))
            print(tries(lambda: os.listdir(".")))
            print(tries(lambda: open("/dev/null", "w").close()))
            print(tries(lambda: socket.create_connection(("127.0.0.1", {port})).close()))
            print(tries(lambda: socket.create_server(("127.0.0.1", 0))))
            print(subprocess.run(["/bin/ls", "."], stderr=subprocess.DEVNULL).returncode)
        """)
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
        )
    no = "PermissionError"
    connecting = "done" if left or landlock.abi() < landlock.NETWORK_ABI else no
    listening = "done" if landlock.abi() < landlock.NETWORK_ABI else no
    assert done.stdout.split() == [
        *("done", "done", no, no, "done", no, "done", connecting, listening, "2"),
    ]
