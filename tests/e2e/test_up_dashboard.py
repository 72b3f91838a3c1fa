"""`mesh up` on a terminal: the dashboard beside the mesh, and every way in which either ends."""

from __future__ import annotations

import os
import re
import signal
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.support.running import RunningMesh, eventually, gone
from tests.support.watched import Watched

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Watched]:
    """Before `mesh up`, when everything is ready; nothing may be left afterwards."""
    with Watched(tmp_path, "up") as watched:
        watched.until("5 services ready")
        family = psutil.Process(watched.process.pid).children(recursive=True)
        try:
            yield watched
        finally:
            if watched.process.poll() is None:
                watched.process.kill()
    eventually(lambda: all(gone(each.pid) for each in family), within_s=60)


def picture_of(person: Watched) -> psutil.Process:
    """The process that draws: the other one of the terminal's session."""
    session = os.getsid(person.process.pid)
    found = [pid for pid in psutil.pids() if pid != session and session_of(pid) == session]
    return psutil.Process(found[0])


def session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def test_the_start_is_shown_and_ctrl_c_stops_it(person: Watched):
    person.until("5/5 healthy")
    first = person.raw.partition(b"\x1b[?1049h")[0].decode()
    assert first.index("reading the configuration") < first.index("waiting for its first status")
    assert len(re.findall("(?:auth|user|product|order|bus).*starting", first)) == 5
    assert first.endswith("\x1b[7F\x1b[J"), "nothing of it stays on the normal screen"
    assert re.search(r"5 services ready in \d+\.\ds +call: mesh call order create", person.row)
    person.type("\x03")
    assert person.left() == 0
    assert re.search(r"bus +graceful", person.said)


def test_leaving_asks_whether_to_stop(person: Watched):
    person.type("q")
    person.until("stop the mesh?")
    person.type("n")
    person.until(lambda text: "stop the mesh?" not in text)
    person.type("qy")
    assert person.left() == 0
    assert re.search(r"bus +graceful", person.said)


def test_log_lines_follow_when_the_screen_is_left(person: Watched, tmp_path: Path):
    person.type("ql")
    eventually(
        lambda: person.read(0.05) == b"" and person.attributes() == person.before, within_s=60
    )
    person.assert_screen_restored()
    RunningMesh(tmp_path).run("restart", "user")
    person.until(lambda text: re.search(r"user +\| ready", text))
    person.type("\x03")
    assert person.left() == 0


def test_a_dashboard_that_is_killed_takes_nothing_with_it(person: Watched, tmp_path: Path):
    mesh = RunningMesh(tmp_path)
    before = mesh.supervisor()
    picture_of(person).kill()
    eventually(
        lambda: person.read(0.05) == b"" and person.attributes() == person.before, within_s=60
    )
    person.assert_screen_restored()
    assert mesh.supervisor() == before
    mesh.run("restart", "user")
    person.until(lambda text: re.search(r"user +\| ready", text))
    person.type("\x03")
    assert person.left() == 0


def test_a_mesh_that_is_killed_gives_the_terminal_back_and_leaves_nothing(person: Watched):
    picture = picture_of(person).pid
    person.process.kill()
    eventually(lambda: gone(picture), within_s=60)
    assert person.left() == -signal.SIGKILL


def test_a_held_terminal_holds_no_mesh(person: Watched):
    person.type("\x13")
    person.process.terminate()
    assert person.left() == 0


def test_a_service_that_fails_is_told_at_the_end(tmp_path: Path):
    file = tmp_path / "mesh.yaml"
    file.write_text(
        "name: two\nservices:\n"
        "  good: {command: [sleep, '60'], restart: 'no'}\n"
        "  bad: {command: [sh, -c, 'echo last words; exit 3'], restart: 'no'}\n"
    )
    with Watched(tmp_path, "-f", str(file), "up") as person:
        person.until(lambda text: re.search(r"✖ bad +failed .*exit 3", text))
        person.type("\x03")
        assert person.left() == 5
        assert "last words" in person.said.split("\x1b[?1049l")[-1]


def test_a_taken_port_is_told_on_the_normal_screen(tmp_path: Path):
    mesh = RunningMesh(tmp_path).up()
    try:
        taken = mesh.services()["auth"]["port"]
        other = tmp_path / "other"
        other.mkdir()
        file = other / "mesh.yaml"
        file.write_text(f"name: x\nservices:\n  web: {{command: [sleep, '9'], port: {taken}}}\n")
        with Watched(other, "-f", str(file), "up", MESH_FREE_PORTS="") as person:
            assert person.left() == 5
            said = person.said
            assert "waiting for its first status" not in said[said.rindex("\x1b[J") :]
            assert "port-taken" in said[said.rindex("\x1b[J") :]
            assert b"\x1b[?1049h" not in person.raw
    finally:
        mesh.down()


def test_plain_is_log_lines(tmp_path: Path):
    with Watched(tmp_path, "up", "product", "--plain") as person:
        person.until("services ready in")
        assert b"\x1b[?1049h" not in person.raw
        person.type("\x03")
        assert person.left() == 0
