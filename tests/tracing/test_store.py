"""What is recorded is on file within its bounds, survives a kill, and is read back whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from mesh import clock
from mesh.tracing import recorder as recording
from mesh.tracing.context import TraceContext, new_trace
from mesh.tracing.recorder import Recorder, encoded
from mesh.tracing.span import Span
from mesh.tracing.store import COMMANDS, NEWER, OLDER, Store
from mesh.tracing.tail import SELF, Tail

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "order"
    made.mkdir()
    return made


def taken(name: str) -> recording.Taken:
    return (
        "a" * 32,
        clock.random_hex(8),
        "",
        "server",
        name,
        1.0,
        2.0,
        "",
        ("GET", None, "/x", 200),
    )


def test_span_comes_back_as_it_was_recorded(folder: Path):
    trace = new_trace()
    recorder = Recorder()
    recorder.record("server", trace, "", "too early", 0.0, 0.0)
    recorder.start(folder)
    begun_s = clock.monotonic_s()
    recorder.record("server", trace, "", "create", begun_s, begun_s + 0.25, "500", ("GET", 1))
    recorder.leaf("commit", trace, "commit", begun_s, begun_s + 0.001, values=(1, 2, 3))
    recorder.record("server", TraceContext("c" * 32, "d" * 16, sampled=False), "", "x", 0.0, 0.0)
    recorder.close()
    recorder.record("server", trace, "", "too late", 0.0, 0.0)
    recorder.close()
    leaf, whole = Tail(folder.parent).read()
    assert (whole.trace_id, whole.span_id, whole.parent_id) == (trace.trace_id, trace.span_id, "")
    assert (whole.service, whole.name, whole.status) == ("order", "create", "500")
    assert (whole.duration_us, whole.attributes) == (250_000, {"method": "GET", "route": 1})
    assert abs(whole.start_us / 1e6 - clock.now_ms() / 1000) < 60
    assert (leaf.parent_id, leaf.attributes["group"]) == (trace.span_id, 3)
    assert len(leaf.span_id) == 16
    assert recorder.dropped == 0


def test_a_line_is_bounded_however_long_what_it_tells_of():
    long = "/" + "x" * 5000
    rows = [taken("short"), (*taken(long)[:-1], ("GET", None, long, 200)), taken("é" * 150)]
    lines = encoded(rows, 0.0).splitlines()
    assert len(lines) == 3
    assert max(map(len, lines)) <= recording.LINE_BYTES_MAX
    assert lines[1].count(b"x") == 2 * recording.TEXT_CHARS_MAX - 2
    assert "é".encode() * 150 in lines[2]


def test_what_comes_after_a_rest_is_on_file_soon_and_the_end_is_heard_at_rest(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(recording, "FLUSH_S", 0.001)
    tail = Tail(folder.parent)
    for _ in range(20):
        recorder = Recorder()
        recorder.start(folder)
        for pause_s in (0.0, 0.0005, 0.005, 0.005):
            until_s = clock.monotonic_s() + 60
            recorder.record("server", new_trace(), "", "create", 0.0, 0.0)
            while not tail.read():
                assert clock.monotonic_s() < until_s
            time.sleep(pause_s)
        recorder.close()


def test_file_is_never_over_its_bound_and_the_oldest_goes(folder: Path):
    store = Store(folder, bytes_max=1000)
    sizes = []
    for number in range(100):
        assert store.append(encoded([taken(f"span {number}")], 0.0))
        sizes.append((folder / NEWER).stat().st_size)
    assert max(sizes) <= 1000
    assert (folder / OLDER).stat().st_size <= 1000
    found = [span.name for span in Tail(folder.parent).read()]
    assert found == [f"span {n}" for n in range(100 - len(found), 100)]
    assert len(found) > 5


def test_spans_beyond_the_queue_are_dropped_and_counted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(recording, "PENDING_MAX", 10)
    monkeypatch.setattr(recording, "FLUSH_S", 60.0)
    recorder = Recorder()
    recorder.start(folder)
    for _ in range(25):
        recorder.record("server", new_trace(), "", "one", 0.0, 0.0)
    recorder.close()
    assert recorder.dropped == 15
    assert len(Tail(folder.parent).read()) == 10


def test_disk_without_space_costs_spans_and_nothing_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    recorder = Recorder()
    recorder.start(folder)
    monkeypatch.setattr(Store, "append", lambda *_: False)
    recorder.record("server", new_trace(), "", "one", 0.0, 0.0)
    recorder.close()
    assert recorder.dropped == 1


def test_what_no_json_can_hold_is_lost_alone(folder: Path):
    recorder = Recorder()
    recorder.start(folder)
    for name in ("one", "lone \ud800", "x" * 5000):
        recorder.record("server", new_trace(), "", name, 0.0, 0.0)
    recorder.close()
    assert [len(span.name) for span in Tail(folder.parent).read()] == [3, 200]
    assert recorder.dropped == 1


def test_torn_line_costs_itself_and_not_the_next(folder: Path, monkeypatch: pytest.MonkeyPatch):
    store, write = Store(folder), os.write
    monkeypatch.setattr("mesh.tracing.store.os.write", lambda fd, raw: write(fd, raw[:20]))
    assert not store.append(encoded([taken("torn")], 0.0))
    monkeypatch.undo()
    assert store.append(encoded([taken("whole")], 0.0))
    assert [span.name for span in Tail(folder.parent).read()] == ["whole"]


def test_reading_goes_on_across_the_turn_of_pieces_and_misses_nothing(folder: Path):
    store, tail, found = Store(folder, bytes_max=2000), Tail(folder.parent), list[Span]()
    for number in range(60):
        store.append(encoded([taken(f"{number}")], 0.0))
        if number % 5 == 0:
            found += tail.read()
    found += tail.read()
    assert [span.name for span in found] == [f"{n}" for n in range(60)]
    assert tail.missed == 0
    for number in range(60):
        store.append(encoded([taken(f"{number}")], 0.0))
    tail.read()
    assert tail.missed > 0, "two turns without a look"


def test_reader_passes_over_what_is_still_being_written(folder: Path):
    whole = encoded([taken("one")], 0.0)
    (folder / NEWER).write_bytes(whole + whole[:30])
    tail = Tail(folder.parent)
    assert len(tail.read()) == 1
    with (folder / NEWER).open("ab") as file:
        file.write(whole[30:])
    assert len(tail.read()) == 1


def test_tail_of_the_end_begins_there(folder: Path):
    store = Store(folder)
    for number in range(50):
        store.append(encoded([taken(f"{number}")], 0.0))
    found = Tail(folder.parent, last_bytes=500).read()
    assert 0 < len(found) < 10
    assert found[-1].name == "49"


def test_stories_of_a_prefix_are_read_alone(folder: Path):
    rows = [(f"{n:032x}"[::-1], *taken("x")[1:]) for n in range(1, 12)]
    Store(folder).append(encoded(rows, 0.0))
    (found,) = Tail(folder.parent, prefix="b00").read()
    assert found.trace_id.startswith("b00")
    assert len(Tail(folder.parent, prefix="").read()) == 11


def test_commands_write_beside_the_description(tmp_path: Path):
    recording.note(tmp_path / "nowhere", taken("lost"))
    (tmp_path / COMMANDS).mkdir()
    recording.note(tmp_path / COMMANDS, taken("mesh call"))
    (span,) = Tail(tmp_path).read()
    assert (span.service, span.name) == (SELF, "mesh call")
    assert Tail(tmp_path / "nothing").read() == []


MORTAL = """
import sys
from pathlib import Path
from mesh import clock
from mesh.tracing.context import new_trace
from mesh.tracing.recorder import recorder
recorder.start(Path(sys.argv[1]))
recorder.record("server", new_trace(), "", "before the kill", 0.0, 0.0)
sys.stdin.read(1)
"""


def test_spans_survive_a_kill(folder: Path):
    child = subprocess.Popen(
        [sys.executable, "-c", MORTAL, str(folder)], stdin=subprocess.PIPE, text=True
    )
    try:
        tail, found = Tail(folder.parent), list[Span]()
        until_s = clock.monotonic_s() + 20
        while not found and clock.monotonic_s() < until_s:
            found = tail.read()
        child.send_signal(signal.SIGKILL)
    finally:
        child.kill()
        child.communicate()
    assert [span.name for span in Tail(folder.parent).read()] == ["before the kill"]
