"""`mesh run`: a service in a terminal, in place of the supervised one, fit for a debugger."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.support.own import greeter_mesh
from tests.support.running import RunningMesh, eventually, gone
from tests.support.terminal import Terminal

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def own(tmp_path: Path):
    """A mesh with one service of one's own, whose action stops in the debugger when told to."""
    running = greeter_mesh(tmp_path)
    running.up()
    try:
        yield running
    finally:
        running.down()


def _greeter(running: RunningMesh) -> dict:
    return running.services()["greeter"]


def test_service_runs_in_the_terminal_until_ctrl_c_and_is_supervised_again(own: RunningMesh):
    before = _greeter(own)
    terminal = Terminal(own.directory, "run", "greeter")
    terminal.read_until(b'"ready"')
    assert gone(before["pid"])
    during = _greeter(own)
    assert (during["state"], during["port"]) == ("stopped", before["port"])
    assert during["cause"] == f"run by hand (pid {terminal.process.pid})"
    assert own.ask("greeter", "GET", "/livez").status == 200
    refused = own.run("start", "greeter", exit_code=1).stderr
    assert "run by hand" in refused
    terminal.type(b"\x03")
    assert terminal.process.wait(60) == 0
    eventually(lambda: _greeter(own)["state"] == "ready", within_s=30)
    assert _greeter(own)["restarts"] == 0


def test_service_that_is_run_may_stand_in_a_debugger(own: RunningMesh):
    source = own.directory / "myshop" / "greeter.py"
    text = source.read_text("utf-8")
    begin = text.index("async def greet(")
    body = text.index('"""\n', text.index('"""', begin) + 3) + 4
    source.write_text(text[:body] + "    breakpoint()\n" + text[body:], "utf-8")
    terminal = Terminal(own.directory, "run", "greeter")
    terminal.read_until(b'"ready"')
    calling = own.start("call", "greeter", "greet", "--json", "--timeout", "30")
    terminal.read_until(rb"\(Pdb\)")
    terminal.type(b"p 6 * 7\r")
    terminal.read_until(rb"\b42\b")
    terminal.type(b"c\r")
    out, err = calling.communicate(timeout=60)
    assert '"status":200' in out, err
    source.write_text(text, "utf-8")
    terminal.process.terminate()  # Ctrl-C is the debugger's now
    assert terminal.process.wait(60) == 0


def test_killed_terminal_takes_the_service_along_and_the_mesh_takes_over(own: RunningMesh):
    terminal = Terminal(own.directory, "run", "greeter")
    terminal.read_until(b'"ready"')
    os.kill(terminal.process.pid, signal.SIGKILL)
    terminal.process.wait()
    eventually(lambda: _greeter(own)["state"] == "ready", within_s=30)
    assert own.json("call", "greeter", "greet")["status"] == 200


def test_service_that_is_run_ends_with_the_mesh(own: RunningMesh):
    terminal = Terminal(own.directory, "run", "greeter")
    terminal.read_until(b'"ready"')
    own.down()
    terminal.read_until(b"the mesh went down")
    assert terminal.process.wait(60) == 0


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("run", "greter"), 2, "did you mean greeter?"),
        (("run",), 2, "missing argument"),
        (("explain", "greter"), 2, "did you mean greeter?"),
        (("explain", "greeter", "g_1"), 2, "has no operation `explain`"),
    ],
)
def test_careless_words_get_an_answer(own: RunningMesh, args, code, says):
    assert says in own.run(*args, exit_code=code).stderr


def test_explanation_of_a_service_that_fails_shows_its_last_words(own: RunningMesh):
    source = own.directory / "myshop" / "greeter.py"
    source.write_text("import no_such_module\n", "utf-8")
    own.run("restart", "greeter", exit_code=5)
    told = own.json("explain", "greeter")
    assert (told["state"], told["desired"], told["cause"]) == ("failed", "up", "exit 78")
    assert told["last_exit"]["how"] == "exit 78"
    shown = own.run("explain", "greeter").stdout
    assert "greeter is failed" in shown
    assert "no_such_module" in shown


def test_explanation_also_when_nothing_runs(tmp_path: Path):
    running = RunningMesh(tmp_path)
    told = running.json("explain", "order", exit_code=3)
    assert (told["state"], told["cause"]) == ("stopped", "no mesh runs here")
    assert "there is no service" in running.run("explain", "ordre", exit_code=2).stderr
