"""The dashboard in a terminal, before the real shop: keys, sizes, and every way out."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.running import RunningMesh, eventually
from tests.support.watched import Watched

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    """The shop with an order in it, running; for tests that leave it so."""
    running = RunningMesh(tmp_path_factory.mktemp("dash"))
    running.up()
    try:
        running.run("call", "order", "create")
        yield running
    finally:
        running.down()


def watching(shop: RunningMesh, *args: str, **more) -> Watched:
    watched = Watched(shop.directory, "dash", *args, **more)
    watched.until("1 services")
    return watched


def test_everything_is_on_one_screen(shop: RunningMesh):
    with watching(shop) as person:
        shown = person.until(
            lambda text: "order.status_changed" in text and "order → product" in text
        )
        for word in ("5/5 healthy", "2 topology", "3 events", "4 traces", "5 logs", "? help"):
            assert word in shown
        assert re.search(r"● product +ready", shown)
        person.until("product.stock_changed")
        person.type("q")
        assert person.left() == 0
        assert "5/5 healthy" in person.shown, "the last picture stays on the normal screen"
        assert b"\x1b[?1000h" not in person.raw
        assert b"\x1b[?1006h" not in person.raw, "the mouse is the terminal's own"


def test_keys_lead_where_they_say(shop: RunningMesh):
    with watching(shop) as person:
        person.type("?")
        person.until("go on with the newest")
        person.type("\x1b")
        person.until("5 logs")
        person.type("jj")
        person.until(lambda text: re.search(r"▸ ● product", text))
        person.type("\x1b[A")
        person.until(lambda text: re.search(r"▸ ● user", text))
        person.type("l")
        person.until("5 logs  user")
        person.type("\x1b")
        person.until("5 logs  all")
        person.type("1\r")
        person.until("health")
        person.type("\x1b/ord\r")
        person.until("1 of 5")
        person.type("\x1b")
        person.until("5 of 5")
        person.type("s")
        person.until("sort name")
        person.type("i")
        person.until("sort name reversed")
        person.type("e")
        person.until("ERRORS ONLY")
        person.type("e3g")
        person.until(lambda text: "follow" not in text.split("3 events")[1].split("\n")[0])
        person.type("f")
        person.until(lambda text: "follow" in text.split("3 events")[1].split("\n")[0])
        person.type("\r")
        person.until("heard by")
        person.type("\x1b5w")
        person.until("wrap")
        person.type("\t")
        person.until("1 services")
        person.type("p")
        person.until("PAUSED")
        person.type("pq")
        assert person.left() == 0


def test_keys_go_to_either_end_however_the_terminal_spells_them(shop: RunningMesh):
    """Home and End as xterm, in its application mode, and as the Linux console; then a page."""
    with watching(shop) as person:
        person.until(lambda text: re.search(r"▸ ● auth", text))
        for to_end, back in (
            ("\x1b[F", "\x1b[H"),
            ("\x1bOF", "\x1bOH"),
            ("\x1b[4~", "\x1b[1~"),
            ("\x1b[6~", "\x1b[5~"),
            ("G", "g"),
        ):
            person.type(to_end)
            person.until(lambda text: re.search(r"▸ ● bus", text))
            person.type(back)
            person.until(lambda text: re.search(r"▸ ● auth", text))
        person.type("q")
        assert person.left() == 0


def test_one_key_leads_from_an_event_to_its_story(shop: RunningMesh):
    with watching(shop) as person:
        person.type("3")
        person.until("product.stock_changed")
        person.type("/order.status\r")
        person.until(
            lambda text: "stock_changed" not in text.split("3 events")[1].split("4 traces")[0]
        )
        person.type("t")
        shown = person.until(lambda text: re.search(r"4 trace [0-9a-f]{8}", text))
        assert re.search(r"4 trace [0-9a-f]{8} .*mesh call order create", shown)
        assert re.search(r"order +ask product PUT", shown)
        person.type("l")
        person.until("5 logs  all  of trace")
        person.type("4\x1b")
        person.until("4 traces  latest")
        person.type("s")
        person.until("4 traces  slowest")
        person.type("\r")
        person.until(lambda text: re.search(r"4 trace [0-9a-f]{8}", text))
        person.type("q")
        assert person.left() == 0


def test_a_service_is_restarted_stopped_and_started_after_one_question(shop: RunningMesh):
    before = shop.services()["user"]["pid"]
    with watching(shop) as person:
        person.type("/user\rr")
        person.until("restart user?")
        person.type("n")
        person.until(lambda text: "restart user?" not in text)
        person.type("ry")
        person.until("user restarted in")
        assert shop.services()["user"]["pid"] != before
        person.type("xy")
        person.until(lambda text: re.search(r"○ user +stopped", text))
        person.type("S")
        person.until(lambda text: re.search(r"● user +ready", text))
        person.type("c")
        person.until("break user")
        person.type("-l")
        person.until(lambda text: re.search(r"user .*latency \ds", text))
        assert shop.services()["user"]["faults"][0]["for_s"] == 10.0
        person.type("cx")
        person.until("ended 1 faults")
        assert shop.services()["user"]["faults"] == []
        person.type("q")
        assert person.left() == 0
    assert shop.services()["user"]["state"] == "ready"


def test_read_only_changes_nothing(shop: RunningMesh):
    before = shop.services()["auth"]["pid"]
    with watching(shop, "--read-only") as person:
        person.until("READ-ONLY")
        for key in "rxSc":
            person.type(key)
            person.until("this screen is read-only")
            person.type("k")
            person.until("? help")
        person.type("q")
        assert person.left() == 0
    assert shop.services()["auth"]["pid"] == before


def test_it_follows_the_size_of_its_window(shop: RunningMesh):
    with watching(shop) as person:
        person.until("5 logs")
        person.resize(80, 24)
        shown = person.until(lambda text: "3 events" in text and "5 logs" not in text)
        assert max(map(len, shown.split("\n"))) <= 80
        person.type("4")
        person.until("4 traces")
        person.resize(40, 8)
        person.until(lambda text: "4 traces" not in text and "SERVICE" in text)
        person.resize(120, 36)
        person.until("5 logs")
        person.type("q")
        assert person.left() == 0


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGHUP, -signal.SIGHUP), (signal.SIGINT, 130)],
)
def test_the_terminal_is_as_it_was_after_a_signal(shop: RunningMesh, number: int, code: int):
    with watching(shop) as person:
        person.process.send_signal(number)
        assert person.left() == code
    assert shop.services()["order"]["state"] == "ready"


def test_ctrl_z_gives_the_terminal_back_for_a_while(shop: RunningMesh):
    with watching(shop) as person:
        person.type("\x1a")
        eventually(lambda: state_of(person.process.pid) == "T", within_s=60)
        person.drain()
        assert person.attributes() == person.before
        person.assert_screen_restored()
        person.process.send_signal(signal.SIGCONT)
        person.until(lambda _: person.raw.endswith(b"\x1b[?2026l"))
        assert person.attributes() != person.before
        person.type("q")
        assert person.left() == 0


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0]


def test_a_closed_window_ends_it(shop: RunningMesh):
    with watching(shop) as person:
        person.hang_up()
        assert person.process.wait(60) in {129, -signal.SIGHUP}
    assert shop.services()["order"]["state"] == "ready"


def test_a_held_terminal_holds_nothing(shop: RunningMesh):
    with watching(shop) as person:
        person.type("\x13")  # Ctrl-S
        time.sleep(0.5)
        person.type("?1234512345?")
        person.process.send_signal(signal.SIGTERM)
        assert person.left() == -signal.SIGTERM


def test_killing_it_harms_nothing(shop: RunningMesh):
    with watching(shop) as person:
        person.process.kill()
        person.process.wait()
    assert {row["state"] for row in shop.services().values()} == {"ready"}


def test_one_picture_is_printed_without_a_terminal(shop: RunningMesh):
    done = shop.run("dash", "--once")
    assert "5/5 healthy" in done.stdout
    assert "order.status_changed" in done.stdout
    assert "\x1b" not in done.stdout
    assert {len(row) for row in done.stdout.splitlines()} == {120}


def test_without_a_terminal_it_is_log_lines(shop: RunningMesh):
    process = shop.start("dash")
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
    finally:
        process.terminate()
    _, said = process.communicate(timeout=60)
    assert " | " in line
    assert "no terminal to draw on" in said


def test_ascii_and_no_colour_are_enough(shop: RunningMesh):
    plain = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C", "NO_COLOR": "1"}
    with watching(shop, **plain) as person:
        shown = person.until("order -> product")
        person.type("q")
        assert person.left() == 0
        assert shown.isascii()
        assert person.raw.isascii()
        assert not re.search(rb"\x1b\[[0-9;]*3[0-7]m", person.raw), "no colour"


def test_the_mesh_killed_meanwhile_gives_the_terminal_back(tmp_path: Path):
    mesh = RunningMesh(tmp_path).up()
    try:
        with watching(mesh) as person:
            os.kill(mesh.supervisor(), signal.SIGKILL)
            assert person.left() == 3
            assert "the mesh has ended" in person.said
    finally:
        mesh.down()


def test_with_nothing_running_there_is_nothing_to_see(tmp_path: Path):
    mesh = RunningMesh(tmp_path)
    assert "mesh up -d" in mesh.run("dash", exit_code=3).stderr
    mesh.run("dash", "--once", exit_code=3)
