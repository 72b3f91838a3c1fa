"""Logs under load: a flood, a held reader, a held terminal; nobody else notices."""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.support.running import RunningMesh, eventually, gone
from tests.support.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIB = 1024 * 1024
CAP_BYTES = 64 * MIB
"""What `mesh logs --help` says a log may take."""

USUAL_S = 20.0
"""Far more than an answer takes on a busy machine, far less than what holds for ever."""

LONG_S = 60.0
"""For a flood to be written and read on a machine that has other things to do."""

FLOOD = """\
import itertools, os, pathlib, signal, socket, sys, time

listener = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))
here = pathlib.Path(sys.argv[1])
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
numbers = itertools.count(int((here / "next").read_text()) if (here / "next").exists() else 0)

def write(size, rate):
    begun, written = time.monotonic(), 0
    while written < size:
        block = b"".join(b"line %015d %s\\n" % (next(numbers), b"x" * 468) for _ in range(128))
        os.write(1, block)
        written += len(block)
        time.sleep(max(0.0, begun + written / rate - time.monotonic()))
    number = next(numbers)
    os.write(1, b"line %015d end\\n" % number)
    (here / "next").write_text(str(number + 1))

print("flood is here", flush=True)
while True:
    for asked in here.glob("go-*"):
        size, rate = asked.read_text().split()
        write(int(size), int(rate))
        asked.rename(here / asked.name.replace("go", "done"))
    time.sleep(0.01)
"""


class Flooded(RunningMesh):
    """The product service, and beside it a program that writes as much as it is told to."""

    def flood(self, size: int, rate: int = 80 * MIB, *, name: str = "a") -> Path:
        """Have so many bytes written, at most so many a second; the file that is there when done."""
        draft = self.directory / "draft"
        draft.write_text(f"{size} {rate}")
        draft.rename(self.directory / f"go-{name}")
        return self.directory / f"done-{name}"

    def disk(self) -> int:
        """Bytes that the flood's log takes just now, pieces and all."""
        total = 0
        with os.scandir(self.directory / "data" / "logs") as entries:
            for entry in entries:
                if "flood" in entry.name:
                    try:
                        total += entry.stat().st_size
                    except FileNotFoundError:
                        continue
        return total

    def answers(self) -> float:
        """How long the other service takes to answer."""
        begun_s = time.monotonic()
        assert self.ask("product", "GET", "/readyz").status == 200
        return time.monotonic() - begun_s

    def follow(self, *args: str) -> tuple[subprocess.Popen, Path, Path]:
        """`mesh logs -f` into two files."""
        out, err = self.directory / "out", self.directory / "err"
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "mesh", "logs", "-f", *args],
                cwd=self.directory,
                env={**os.environ, "NO_COLOR": "1"},
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  as a shell's foreground has it
            )
        return process, out, err


@pytest.fixture
def flooded(tmp_path: Path) -> Iterator[Flooded]:
    (tmp_path / "flood.py").write_text(FLOOD)
    services = {
        "product": {"module": "mesh.services.product"},
        "flood": {
            "command": [sys.executable, "flood.py", str(tmp_path)],
            "sandbox": "off",  # it is told what to write by files in this folder
        },
    }
    config = {"name": "flooded", "bus": "zmq://", "services": services}
    (tmp_path / "mesh.yaml").write_text(yaml.safe_dump(config))
    mesh = Flooded(tmp_path)
    yield mesh
    mesh.down()


def numbers(path: Path) -> list[int]:
    return [int(found) for found in re.findall(rb"line (\d{15})", path.read_bytes())]


def ended(path: Path, times: int) -> bool:
    return path.read_bytes().count(b" end\n") >= times


def runs_missing(found: list[int]) -> list[int]:
    """How many are missing, for each place at which some are."""
    return [
        after - before - 1 for before, after in itertools.pairwise(found) if after != before + 1
    ]


def test_flood_with_a_held_reader_keeps_to_its_bounds_and_harms_nobody(flooded: Flooded):
    flooded.up()
    follower, out, err = flooded.follow("flood")
    eventually(lambda: b"flood is here" in out.read_bytes(), LONG_S)
    follower.send_signal(signal.SIGSTOP)
    done = flooded.flood(150 * MIB)
    most, slowest_s = 0, 0.0
    while not done.exists():
        most = max(most, flooded.disk())
        slowest_s = max(slowest_s, flooded.answers())
    assert flooded.services()["flood"]["restarts"] == 0
    assert 8 * MIB < most <= CAP_BYTES
    assert slowest_s < USUAL_S
    follower.send_signal(signal.SIGCONT)
    eventually(lambda: ended(out, 1), LONG_S)
    said = err.read_text()
    missed = sum(map(int, re.findall(r"flood: (\d+) bytes were rotated away", said)))
    found = numbers(out)
    assert found == sorted(set(found))
    assert missed > 100 * MIB
    assert missed + len(found) * 490 <= 151 * MIB
    follower.send_signal(signal.SIGKILL)
    follower.wait()
    done = flooded.flood(MIB, name="b")
    eventually(done.exists, LONG_S)
    assert flooded.answers() < USUAL_S
    assert "end" in flooded.run("logs", "flood", "-n", "1").stdout


def test_follower_reads_each_line_once_across_restarts_and_cuts(flooded: Flooded):
    flooded.up()
    follower, out, err = flooded.follow("flood", "--json")
    times = 6
    for n in range(times):
        done = flooded.flood(4 * MIB, 30 * MIB, name=str(n))
        eventually(done.exists, LONG_S)
        flooded.run("restart", "flood")
    eventually(lambda: out.read_bytes().count(b' end"') >= times, LONG_S)
    pieces = [*(flooded.directory / "data" / "logs").glob("flood.log.*")]
    assert len(pieces) >= 2
    found = numbers(out)
    assert found == sorted(set(found))
    gaps = runs_missing(found)
    assert len(gaps) <= len(pieces), gaps  # what was written at the very instant of a cut
    assert sum(gaps) <= 128 * len(pieces)
    assert out.read_bytes().count(b"flood is here") == times + 1
    assert err.read_bytes() == b""
    follower.send_signal(signal.SIGINT)
    assert follower.wait(LONG_S) == 130
    whole = flooded.run("logs", "flood", "--search", "^line")
    assert [int(n) for n in re.findall(r"line (\d{15})", whole.stdout)] == found
    assert len(flooded.run("logs", "flood", "-n", "30000").stdout.splitlines()) == 30_000


def held_terminal(mesh: Flooded) -> Terminal:
    """The mesh in the foreground of a terminal that has stopped in the midst of a flood."""
    terminal = Terminal(mesh.directory, "up", "--plain")
    terminal.read_until(rb"3 services ready")
    mesh.flood(MIB)
    terminal.read_until(rb"line 0")
    terminal.type(b"\x13")
    done = mesh.flood(2 * MIB, name="b")
    eventually(done.exists, LONG_S)
    terminal.read_until_quiet()
    return terminal


def everybody_answers(mesh: Flooded) -> None:
    """Requests to the supervisor and to a service, and what needs the supervisor to act."""
    for _ in range(3):
        begun_s = time.monotonic()
        assert mesh.services()["product"]["state"] == "ready"
        assert mesh.run("call", "product", "list").returncode == 0
        assert time.monotonic() - begun_s < 2 * USUAL_S
        assert mesh.answers() < USUAL_S
    pid = mesh.kill("product")
    mesh.run("wait", "product", "--timeout", "30")
    assert mesh.services()["product"]["pid"] != pid


def test_held_terminal_holds_nobody_and_goes_on_where_it_was(flooded: Flooded):
    terminal = held_terminal(flooded)
    everybody_answers(flooded)
    terminal.type(b"\x11")
    terminal.read_until(rb"flood: \d+ bytes were not shown; mesh logs flood")
    terminal.read_until(rb"product +\x1b\[\d+m(backoff|starting) .* signal 9")
    terminal.type(b"\x03")
    terminal.read_until(rb"bus +graceful")
    assert terminal.process.wait(LONG_S) == 0
    assert re.search(rb"end\r\n.*product +graceful", terminal.screen, re.DOTALL)


@pytest.mark.parametrize("how", ["ctrl-s", "pipe"])
def test_mesh_ends_in_time_though_nobody_takes_its_output(flooded: Flooded, how: str):
    if how == "ctrl-s":
        process = held_terminal(flooded).process
    else:
        process = flooded.start("up")
        eventually((flooded.directory / "data" / "run" / "mesh.json").exists, LONG_S)
        flooded.run("wait", "--timeout", "20")
        done = flooded.flood(3 * MIB)
        eventually(done.exists, LONG_S)
    everybody_answers(flooded)
    pids = [row["pid"] for row in flooded.services().values()]
    begun_s = time.monotonic()
    process.terminate()
    assert process.wait(LONG_S) == 0
    for stream in filter(None, (process.stdout, process.stderr)):
        stream.close()
    assert time.monotonic() - begun_s < USUAL_S
    assert [pid for pid in pids if not gone(pid)] == []
    flooded.up()
