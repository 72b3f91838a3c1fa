"""A mesh in the foreground is never held by who should read what it shows."""

from __future__ import annotations

import io
import os
import select
import sys
from typing import TYPE_CHECKING

import pytest

from mesh.commands import output, screen
from mesh.commands.screen import Screen
from mesh.orchestrator import logs

if TYPE_CHECKING:
    from collections.abc import Iterator

ENDED = [{"name": "web", "how": "graceful", "after_s": 0.3}]


def shown(said) -> None:
    output.out(f"now {said['new']}")


@pytest.fixture
def web(tmp_path):
    """The log of a program."""
    return {"web": tmp_path / "web.log"}


class Pipe:
    """Standard output that nobody reads."""

    def __init__(self, monkeypatch) -> None:
        self.reading, writing = os.pipe()
        self.stream = io.TextIOWrapper(io.FileIO(writing, "w"), write_through=True)
        self._monkeypatch = monkeypatch

    def become_stdout(self) -> None:
        """In the test itself: between its phases pytest puts its own back."""
        self._monkeypatch.setattr(sys, "stdout", self.stream)

    def read(self) -> str:
        """Everything that was written until nothing more comes."""
        raw = b""
        while select.select([self.reading], [], [], 0.3)[0] and (
            part := os.read(self.reading, 2**16)
        ):
            raw += part
        return raw.decode()


@pytest.fixture
def pipe(monkeypatch) -> Iterator[Pipe]:
    """The thread of the screen must have ended when this is closed."""
    held = Pipe(monkeypatch)
    yield held
    monkeypatch.undo()
    held.stream.close()
    os.close(held.reading)


def flood(path, size):
    with path.open("ab") as file:
        file.write(b"x" * 99 + b"\n" + (b"y" * 99 + b"\n") * (size // 100))


def test_lines_come_before_the_change_they_led_to_and_the_report_comes_last(web, capsys):
    web["web"].write_text("of another run\n")
    view = Screen(["web"], web, shown)
    view.changed({"new": "starting"})
    with web["web"].open("a") as file:
        file.write("last words\n")
    view.changed({"new": "failed"})
    with web["web"].open("a") as file:
        file.write("and these\n")
    assert view.end(ENDED)
    out = capsys.readouterr().out.splitlines()
    assert out[-1] == "web  graceful 0.3 s"
    assert [line for line in out if "now" in line] == ["now starting", "now failed"]
    assert [line for line in out if "|" in line] == ["web | last words", "web | and these"]
    assert out.index("web | last words") < out.index("now failed")


def test_a_screen_that_never_began_has_nothing_to_end(web, capsys):
    assert Screen(["web"], web, shown).end(())
    assert capsys.readouterr().out == ""


def test_nobody_waits_for_a_held_screen_and_what_it_missed_is_counted(
    web, capsys, pipe, monkeypatch
):
    monkeypatch.setattr(screen, "CHANGES_MAX", 5)
    monkeypatch.setattr(screen, "BACKLOG_BYTES_MAX", 10_000)
    monkeypatch.setattr(screen, "END_S", 0.2)
    pipe.become_stdout()
    view = Screen(["web"], web, shown)
    view.changed({"new": "starting"})
    assert "now starting" in pipe.read()
    flood(web["web"], 2**20)
    assert select.select([pipe.reading], [], [], 5.0)[0]
    for number in range(10):
        view.changed({"new": f"change {number}"})
    assert not view.end(ENDED)
    out = pipe.read().splitlines()
    view._thread.join(5.0)
    assert not view._thread.is_alive()
    assert out[-1] == "web  graceful 0.3 s"
    assert [line for line in out if "now" in line] == [f"now change {n}" for n in range(5)]
    said = capsys.readouterr().err.splitlines()
    assert said[-1] == "5 changes were not shown; mesh logs mesh"
    told = sum(int(line.split()[1]) for line in said if "bytes were not shown" in line)
    lines_ = [line for line in out if "|" in line]
    assert len(lines_) * 100 + told == logs.size(web["web"])


def test_closed_window_stops_nobody(web, pipe):
    pipe.become_stdout()
    view = Screen(["web"], web, shown)
    os.close(pipe.reading)
    pipe.reading = os.open(os.devnull, os.O_RDONLY)
    view.changed({"new": "starting"})
    flood(web["web"], 10_000)
    assert view.end(ENDED)
