from __future__ import annotations

import json
import os
import stat
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh import clock
from mesh.orchestrator import logs, pieces, reader


def at(seconds, text):
    """A JSON line of that time."""
    return json.dumps({"time": clock.iso(seconds * 1000), "message": text}) + "\n"


def texts(lines):
    return [
        json.loads(line.text)["message"] if line.text.startswith("{") else line.text
        for line in lines
    ]


@pytest.fixture
def paths(tmp_path):
    return {name: tmp_path / f"{name}.log" for name in "ab"}


def test_log_is_opened_to_append_and_for_its_owner_only(paths):
    for _ in range(2):
        descriptor = logs.append_to(paths["a"])
        os.write(descriptor, b"one\n")
        os.close(descriptor)
    assert paths["a"].read_bytes() == b"one\none\n"
    assert stat.S_IMODE(paths["a"].stat().st_mode) == 0o600


def test_log_is_never_written_through_a_link(paths):
    paths["a"].symlink_to(paths["b"])
    with pytest.raises(OSError, match="symbolic"):
        logs.append_to(paths["a"])


def test_tail_merges_files_by_time(paths):
    paths["a"].write_text(at(1, "a1") + at(4, "a4"))
    paths["b"].write_text(at(2, "b2") + "a traceback\n" + at(3, "b3"))
    assert texts(logs.tail(paths, None)) == ["a1", "b2", "a traceback", "b3", "a4"]


@pytest.mark.parametrize(
    "odd", ["{}", "{", '{"time":1}', '{"time":"soon"}', '{"time":null}', "{" * 5000, '{"a":' * 5000]
)
def test_line_without_a_proper_time_belongs_to_the_line_before(paths, odd):
    paths["a"].write_text(at(5, "before") + odd + "\n")
    before, after = logs.tail(paths, None)
    assert (before.at_ms, after.at_ms, after.text) == (5000, 5000, odd)


def test_tail_keeps_the_order_within_a_file_whatever_its_clock_did(paths):
    paths["a"].write_text(at(5, "first") + at(1, "second"))
    paths["b"].write_text(at(3, "between"))
    assert texts(logs.tail(paths, None)) == ["between", "first", "second"]


def test_tail_gives_the_last_lines_of_each(paths):
    paths["a"].write_text("".join(f"{n}\n" for n in range(10)))
    assert texts(logs.tail(paths, 2)) == ["8", "9"]
    assert texts(logs.tail(paths, 0)) == []


def test_tail_counts_a_last_line_that_is_not_finished(paths):
    paths["a"].write_text("one\r\ntwo\r\nthr")
    assert texts(logs.tail(paths, 2)) == ["two", "thr"]


@given(
    lines=st.lists(st.binary(max_size=30).map(lambda raw: raw.replace(b"\n", b"")), max_size=20),
    ended=st.booleans(),
    count=st.integers(0, 25),
    chunk=st.integers(1, 16),
)
def test_tail_is_the_end_of_all_lines_whatever_they_hold(
    tmp_path_factory, lines, ended, count, chunk
):
    path = tmp_path_factory.mktemp("logs") / "a.log"
    path.write_bytes(b"\n".join(lines) + (b"\n" if ended and lines else b""))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "CHUNK_BYTES", chunk)
        everything = [line.text for line in logs.tail({"a": path}, None)]
        last = [line.text for line in logs.tail({"a": path}, count)]
    assert len(everything) in {len(lines), len(lines) - 1}
    assert last == everything[max(0, len(everything) - count) :]


@pytest.mark.parametrize("last", [None, 2])
def test_long_line_is_cut_and_takes_little_memory(paths, last):
    with paths["a"].open("wb") as file:
        for _ in range(100):
            file.write(b"x" * 2**20)
        file.write(b"\nshort\n")
    tracemalloc.start()
    long, short = logs.tail(paths, last)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert long.text.endswith("x [cut]")
    assert len(long.text) == reader.LINE_BYTES_MAX + len(reader.CUT)
    assert short.text == "short"
    assert peak_bytes < 4 * 2**20


def test_bytes_that_are_no_text_are_shown_as_escapes(paths):
    paths["a"].write_bytes(b"\xff\x00\n")
    [line] = logs.tail(paths, None)
    assert line.text == "\\xff\x00"


def test_last_lines_begin_no_earlier_than_asked(paths):
    paths["a"].write_text("old\nnew 1\nnew 2\n")
    assert logs.last_lines(paths["a"], 20, since=4) == ("new 1", "new 2")
    assert logs.last_lines(paths["a"], 1, since=4) == ("new 2",)
    assert logs.last_lines(paths["b"], 5) == ()


def test_follower_reads_what_is_added_line_by_line(paths):
    paths["a"].write_text("before\n")
    follower = logs.Follower(paths)
    assert follower.read() == []
    with paths["a"].open("a") as file:
        file.write("half")
        file.flush()
        assert follower.read() == []
        file.write(" line\n")
    assert texts(follower.read()) == ["half line"]


def test_follower_goes_on_when_a_file_is_made_truncated_or_removed(paths, monkeypatch):
    monkeypatch.setattr(pieces, "SETTLE_S", 0.0)
    follower = logs.Follower(paths)
    paths["b"].write_text("made\n")
    assert texts(follower.read()) == ["made"]
    paths["b"].write_text("x\n")
    assert texts(follower.read()) == ["x"]
    paths["b"].unlink()
    assert follower.read() == []


def test_follower_takes_a_flood_in_bounded_bites(paths):
    paths["a"].write_bytes(b"0123456789\n" * (reader.CHUNK_BYTES // 5))
    follower = logs.Follower(paths, None)
    first = follower.read()
    assert len(first) <= reader.CHUNK_BYTES // 11
    assert follower.behind
    count = len(first)
    while follower.behind:
        count += len(follower.read())
    assert count == reader.CHUNK_BYTES // 5


def test_journal_writes_one_object_a_line_and_counts_what_found_no_space(tmp_path):
    journal = logs.Journal(tmp_path / "mesh.log")
    journal.write("transition", name="a\nb")
    journal.close()
    [line] = (tmp_path / "mesh.log").read_text().splitlines()
    assert json.loads(line)["name"] == "a\nb"
    full = logs.Journal(Path("/dev/full"))
    full.write("transition")
    full.close()
    assert full.lost == 1
