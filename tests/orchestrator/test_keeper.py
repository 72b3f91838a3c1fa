"""Logs that are cut while they are written and read: each line once, in order, within bounds."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import time
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh import clock
from mesh.orchestrator import keeper, logs, notes, pieces, reader, writes
from mesh.orchestrator.keeper import Keeper
from mesh.orchestrator.pieces import Log

FILE = 100
"""Bytes at which the logs of these tests are cut."""


class Written:
    """A log, and everything that was ever written to it."""

    def __init__(self, folder, **bounds):
        self.path = folder / "a.log"
        self.bounds = {"file_bytes_max": FILE, "kept_bytes_max": 10**6, **bounds}
        self.keeper = Keeper([self.path], **self.bounds)
        self.log = Log(self.path)
        self.raw = b""
        self._numbers = count()
        self._descriptor = logs.append_to(self.path)

    def write(self, raw):
        os.write(self._descriptor, raw)
        self.raw += raw

    def lines(self, amount):
        """Write some numbered lines; nothing else is as long as any of them."""
        for number in [next(self._numbers) for _ in range(amount)]:
            self.write(b"line %07d\n" % number)

    def look(self):
        self.keeper.look()

    def again(self):
        """The next supervisor."""
        self.keeper = Keeper([self.path], **self.bounds)

    def cut(self):
        """Fill the file and have it cut; returns where it begins then."""
        self.lines(FILE // 13 + 1)
        self.look()
        return self.log.shape().base

    def follower(self, last=None):
        return logs.Follower({"a": self.path}, last)

    def disk(self):
        return sum(entry.stat().st_size for entry in self.path.parent.iterdir())

    def close(self):
        os.close(self._descriptor)


@pytest.fixture
def written(tmp_path):
    log = Written(tmp_path)
    yield log
    log.close()


@contextmanager
def a_log(folder, **bounds):
    log = Written(folder, **bounds)
    try:
        yield log
    finally:
        log.close()


def texts(lines):
    return [line.text for line in lines]


def numbered(*numbers):
    return [f"line {number:07d}" for number in numbers]


def drained(follower):
    found = follower.read()
    while follower.behind:
        found += follower.read()
    return texts(found)


# what is on disk


def test_full_file_is_copied_and_cut_and_offsets_go_on(written):
    written.lines(9)
    assert [path.name for path in written.path.parent.iterdir()] == ["a.log"]
    written.look()
    assert written.path.stat().st_size == 0
    [piece] = written.path.parent.glob("a.log.*")
    assert piece.name == "a.log.000000000000000"
    assert piece.read_bytes() == written.raw
    assert stat.S_IMODE(piece.stat().st_mode) == 0o600
    assert logs.size(written.path) == len(written.raw)
    written.cut()
    assert sorted(path.name for path in written.path.parent.glob("*a.log*")) == [
        "a.log",
        "a.log.000000000000000",
        "a.log.000000000000117",
    ]
    assert logs.size(written.path) == len(written.raw)


def test_file_that_is_not_full_is_left_alone(written):
    written.lines(7)
    written.look()
    written.look()
    assert {path.name for path in written.path.parent.iterdir()} == {"a.log", "a.idx"}


def test_oldest_pieces_go_when_all_are_too_many(tmp_path):
    with a_log(tmp_path, kept_bytes_max=3 * FILE) as log:
        for _ in range(50):
            log.cut()
        assert sum(piece.length for piece in log.log.shape().pieces) <= 3 * FILE
        assert log.disk() < 6 * FILE
        assert logs.size(log.path) == len(log.raw)
        kept = texts(logs.tail({"a": log.path}, None))
        assert kept == log.raw.decode().splitlines()[-len(kept) :]
        assert len(kept) > FILE // 13


def test_supervisor_that_was_held_for_long_keeps_the_newest_part(tmp_path):
    with a_log(tmp_path, kept_bytes_max=3 * FILE) as log:
        log.cut()
        log.lines(80)
        log.look()
        assert sum(piece.length for piece in log.log.shape().pieces) <= 3 * FILE
        assert logs.size(log.path) == len(log.raw)
        assert log.keeper.lost_bytes == 80 * 13 - 2 * FILE
        log.lines(1)
        assert texts(logs.tail({"a": log.path}, 3)) == numbered(86, 87, 88)


def test_program_that_outruns_the_copy_is_cut_short_and_the_loss_is_counted(tmp_path, monkeypatch):
    with a_log(tmp_path) as log:
        copy = keeper._copy

        def outrun(*args):
            log.lines(3 * FILE // 13)
            return copy(*args)

        told = []
        log.keeper._tell = lambda event, **facts: told.append((event, facts["lost_bytes"]))
        monkeypatch.setattr(keeper, "_copy", outrun)
        log.cut()
        monkeypatch.undo()
        assert told == [("log bytes lost", log.keeper.lost_bytes)]
        assert log.keeper.lost_bytes > FILE
        assert logs.size(log.path) == len(log.raw)
        follower = log.follower()
        log.lines(2)
        got = [text for text in drained(follower) if not text.endswith(" [cut]")]
        everything = log.raw.decode().splitlines()
        assert got == [text for text in everything if text in got]
        assert got[-1] == everything[-1]
        assert follower.missed() == {"a": log.keeper.lost_bytes + 13}


# readers


def test_reader_finds_its_place_across_cuts_and_supervisors(written):
    follower = written.follower()
    for _ in range(3):
        written.cut()
        written.again()
        written.lines(1)
    assert drained(follower) == written.raw.decode().splitlines()
    assert follower.missed() == {}


def test_slow_reader_is_told_what_is_gone_and_goes_on(tmp_path):
    with a_log(tmp_path, kept_bytes_max=2 * FILE) as log:
        follower = log.follower()
        log.lines(2)
        log.write(b"half a ")
        assert drained(follower) == numbered(0, 1)
        log.write(b"line\n")
        for _ in range(5):
            log.cut()
        got = drained(follower)
        assert got[0] == "half a  [cut]"
        everything = log.raw.decode().splitlines()
        assert got[1:] == everything[-len(got) + 1 :]
        shown = len("\n".join([*everything[:2], *got[1:]])) + 1 + len("half a ")
        assert follower.missed() == {"a": len(log.raw) - shown}
        assert follower.missed() == {}


def test_reader_that_is_to_be_no_further_behind_skips_whole_lines(written):
    follower = written.follower()
    for _ in range(5):
        written.cut()
    follower.skip(30)
    assert drained(follower) == numbered(38, 39)
    assert follower.missed() == {"a": 38 * 13}


@pytest.mark.parametrize("last", [0, 1, 7, 8, 9, 20, 39, 40, 41, None])
def test_last_lines_are_counted_over_pieces(written, last):
    for _ in range(5):
        written.cut()
    written.write(b"unfinished")
    everything = written.raw.decode().splitlines()
    wanted = everything if last is None else everything[len(everything) - min(last, 41) :]
    assert texts(logs.tail({"a": written.path}, last)) == wanted


def test_last_lines_begin_no_earlier_than_asked_in_whatever_piece_that_is(written):
    written.lines(5)
    since = logs.size(written.path)
    written.lines(15)
    written.look()
    written.lines(1)
    assert logs.last_lines(written.path, 100, since=since) == tuple(numbered(*range(5, 21)))
    follower = logs.Follower({"a": written.path}, since={"a": since})
    assert drained(follower) == numbered(*range(5, 21))


def test_last_lines_read_no_more_than_they_may_take(written, monkeypatch):
    monkeypatch.setattr(logs, "LINE_BYTES_MAX", 20)
    written.write(b"x" * 1000 + b"\n")
    written.lines(2)
    assert len(logs.last_lines(written.path, 5)[0]) <= 100


def test_emptied_by_other_hands_is_read_from_its_new_beginning(written, monkeypatch):
    monkeypatch.setattr(pieces, "SETTLE_S", 0.0)
    follower = written.follower()
    written.cut()
    written.lines(3)
    assert len(drained(follower)) == 11
    os.truncate(written.path, 0)
    written.write(b"anew\n")
    written.look()
    assert drained(follower) == ["anew"]


@given(
    steps=st.lists(
        st.one_of(
            st.binary(max_size=60).map(lambda raw: ("write", raw.replace(b"\r", b"r"))),
            st.sampled_from([("look", None), ("read", None), ("read", None), ("again", None)]),
        ),
        max_size=60,
    ),
    chunk=st.integers(1, 64),
)
def test_each_line_is_read_once_in_order_whatever_happens_when(tmp_path_factory, steps, chunk):
    with pytest.MonkeyPatch.context() as patch, a_log(tmp_path_factory.mktemp("logs")) as log:
        patch.setattr(reader, "CHUNK_BYTES", chunk)
        follower = log.follower()
        got = []
        for step, raw in steps:
            match step:
                case "write":
                    log.write(raw)
                case "look":
                    log.look()
                case "again":
                    log.again()
                case "read":
                    got += texts(follower.read())
        got += drained(follower)
        *ended, rest = log.raw.decode("utf-8", "backslashreplace").split("\n")
        assert got == ended
        assert follower.missed() == {}
        everything = texts(logs.tail({"a": log.path}, None))
        assert everything == [*ended, rest][: None if rest else -1]
        assert texts(logs.tail({"a": log.path}, 3)) == everything[-3:]


# readers and deaths between the steps of a cut

STEPS = ["copied", "named", "copied on", "cut", "renamed"]


def at_each_step(patch, action):
    """Have `action(step)` called after each step of a cut."""
    steps = iter(STEPS)

    def followed(function):
        def call(*args):
            found = function(*args)
            action(next(steps))
            return found

        return call

    patch.setattr(keeper, "_copy", followed(keeper._copy))
    patch.setattr(Path, "rename", followed(Path.rename))
    patch.setattr(os, "ftruncate", followed(os.ftruncate))


def test_reader_between_any_two_steps_reads_each_line_once(written, monkeypatch):
    follower, got, ends, seen = written.follower(), [], [], []
    written.lines(9)

    def action(step):
        seen.append(step)
        got.extend(drained(follower))
        ends.append(logs.size(written.path))

    at_each_step(monkeypatch, action)
    written.look()
    assert seen == STEPS
    assert ends == [9 * 13] * 5
    written.lines(2)
    assert got + drained(follower) == numbered(*range(11))


@pytest.mark.parametrize("step", ["copied", "named"])
def test_what_is_written_during_a_copy_is_kept(written, monkeypatch, step):
    at_each_step(monkeypatch, lambda now: written.lines(3) if now == step else None)
    written.lines(9)
    written.look()
    assert texts(logs.tail({"a": written.path}, None)) == numbered(*range(12))


@pytest.mark.parametrize("step", STEPS)
def test_death_at_any_step_loses_nothing_and_doubles_nothing(written, monkeypatch, step):
    follower = written.follower()
    written.cut()
    written.lines(9)
    pid = os.fork()
    if pid == 0:
        at_each_step(monkeypatch, lambda now: os._exit(9) if now == step else None)
        written.look()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    written.lines(1)  # by a program that outlived its supervisor for a moment
    everything = numbered(*range(18))
    monkeypatch.setattr(pieces, "SETTLE_S", 0.0)
    assert texts(logs.tail({"a": written.path}, None)) == everything
    assert drained(written.follower(5)) == everything[-5:]
    got = drained(follower)
    written.again()
    assert not [path for path in written.path.parent.iterdir() if path.name.startswith(".")]
    assert logs.size(written.path) == len(written.raw)
    written.cut()
    assert got + drained(follower) == written.raw.decode().splitlines()


def test_reader_waits_while_a_file_is_being_cut_and_not_for_ever(written, monkeypatch):
    written.lines(9)
    os.link(written.path, written.log.cutting(0))  # all copied, nothing cut: and nobody goes on
    looks = count()
    monkeypatch.setattr(clock, "monotonic_s", lambda: 0.1 * next(looks))
    assert texts(logs.tail({"a": written.path}, None)) == numbered(*range(9))
    follower = written.follower()
    got = texts(follower.read())
    written.log.cutting(0).unlink()
    written.lines(1)
    assert got + drained(follower) == numbered(*range(10))


# a full disk


def full_disk(patch, *, also_names=False):
    """No copy finds room; nor does a new name, if so asked."""
    written, opened = os.write, os.open

    def write(descriptor, raw):
        if Path(f"/proc/self/fd/{descriptor}").readlink().suffix in {".copy", ".idx"}:
            raise OSError(errno.ENOSPC, "no space")
        return written(descriptor, raw)

    def open_(path, flags, mode=0o777, **rest):
        if also_names and flags & os.O_CREAT and not os.path.lexists(path):
            raise OSError(errno.ENOSPC, "no space")
        return opened(path, flags, mode, **rest)

    patch.setattr(os, "write", write)
    patch.setattr(os, "open", open_)


def test_on_a_full_disk_old_pieces_make_room_and_then_the_file_is_only_cut(written, monkeypatch):
    monkeypatch.setattr(keeper, "RETRY_S", 0.0)
    follower = written.follower()
    for _ in range(3):
        written.cut()
    full_disk(monkeypatch)
    written.cut()
    assert [piece.start for piece in written.log.shape().pieces] == [208]
    assert written.keeper.lost_bytes == 0
    assert written.path.stat().st_size == 104  # it may still grow to twice its size
    written.cut()
    assert written.path.stat().st_size == 0
    assert written.keeper.lost_bytes == 208
    monkeypatch.undo()
    assert logs.size(written.path) == len(written.raw)
    written.lines(2)
    assert drained(follower) == numbered(*range(17, 24), 41)  # a line that may be half goes too
    assert follower.missed() == {"a": 17 * 13 + 208 + 13}


def test_on_a_disk_without_room_for_a_name_nothing_is_lost_and_it_goes_on_later(
    written, monkeypatch
):
    monkeypatch.setattr(keeper, "RETRY_S", 0.0)
    full_disk(monkeypatch, also_names=True)
    for _ in range(3):
        written.cut()
    assert texts(logs.tail({"a": written.path}, None)) == numbered(*range(24))
    monkeypatch.undo()
    written.cut()
    assert logs.size(written.path) == len(written.raw)
    assert written.path.stat().st_size == 0


def test_looking_never_raises_whatever_became_of_the_files(written):
    written.lines(9)
    for path in written.path.parent.iterdir():
        path.unlink()
    written.look()
    written.path.mkdir()
    written.look()
    shutil.rmtree(written.path.parent)
    written.look()
    assert texts(logs.tail({"a": written.path}, None)) == []


# times


def test_lines_without_a_time_get_the_one_noted_when_the_log_had_grown(tmp_path, monkeypatch):
    now = {"ms": 1_000, "s": 0.0}
    monkeypatch.setattr(clock, "now_ms", lambda: now["ms"])
    monkeypatch.setattr(clock, "monotonic_s", lambda: now["s"])
    paths = [tmp_path / f"{name}.log" for name in "ab"]
    both = Keeper(paths, file_bytes_max=FILE)
    with paths[0].open("a") as a, paths[1].open("a") as b:
        for number in range(1, 40):
            print(f"line {number} of {'a' if number % 2 else 'b'}", file=a if number % 2 else b)
            a.flush()
            b.flush()
            now["ms"], now["s"] = 1_000 * number, float(number)
            both.look()
    found = list(logs.tail({"a": paths[0], "b": paths[1]}, None))
    assert [line.at_ms for line in found] == [1_000 * n for n in range(1, 40)]
    assert [int(line.text.split()[1]) for line in found] == list(range(1, 40))
    assert len(Log(paths[0]).shape().pieces) == 2


def json_line(second, text):
    return json.dumps({"time": clock.iso(1000 * second), "message": text}).encode() + b"\n"


def test_traceback_keeps_the_time_of_the_line_that_told_of_it(written, monkeypatch):
    monkeypatch.setattr(clock, "now_ms", lambda: 7_300)
    written.write(b"first\n" + json_line(7, "boom") + b"Traceback\n  line\n")
    written.look()
    written.write(b"later\n")
    times = [line.at_ms for line in logs.tail({"a": written.path}, None)]
    assert times == [7_300, 7_000, 7_000, 7_000, 7_000]


def test_line_that_is_just_being_written_has_the_present_time(written, monkeypatch):
    monkeypatch.setattr(clock, "now_ms", lambda: 9_000)
    written.write(b"of another day\n")
    follower = written.follower()
    assert [line.at_ms for line in follower.read()] == [None]
    assert follower.read() == []
    written.write(b"just now\n")
    assert [line.at_ms for line in follower.read()] == [9_000]


@pytest.mark.parametrize(
    "odd", ["10000-01-01T00:00:00Z", "9999-12-31T23:59:59-10:00", "0001-01-01"]
)
def test_time_that_is_no_date_is_none(written, odd):
    written.write(json.dumps({"time": odd}).encode() + b"\n")
    assert [line.at_ms for line in logs.tail({"a": written.path}, None)] == [None]


def test_notes_become_coarser_with_age_and_stay_bounded(tmp_path):
    log = tmp_path / "a.log"
    for number in range(1, 2_000):
        notes.add(log, number, 10 * number, bytes_max=2_000)
    assert notes.beside(log).stat().st_size <= 2_000
    found = notes.Notes(log)
    assert found.at(19_985).at_ms == 1_999
    errors = [found.at(offset).at_ms - offset / 10 for offset in range(0, 19_990, 10)]
    assert min(errors) > 0
    assert max(errors[-50:]) <= 2
    assert max(errors) < 2_000
    notes.trim(log, 19_900)
    assert notes.Notes(log).at(0).at_ms > 1_990


def test_notes_that_are_none_are_passed_over(tmp_path):
    log = tmp_path / "a.log"
    notes.beside(log).write_bytes(b"\xff\n1 2 3\n5 10\n7\n9999999999999999 11\n4 9\n8 20\n9 3")
    found = notes.Notes(log)
    assert [found.at(0), found.at(10), found.at(20)] == [(0, 5), (1, 8), None]


def test_notes_of_a_log_that_is_gone_go_too(written):
    written.cut()
    for path in written.path.parent.glob("a.log.*"):
        path.unlink()
    written.again()
    assert not notes.beside(written.path).exists()


def test_follower_reads_notes_as_they_are_added_and_replaced(tmp_path):
    log = tmp_path / "a.log"
    found = notes.Notes(log)
    assert found.at(0) is None
    for number in range(1, 500):
        notes.add(log, number, 10 * number, bytes_max=1_000)
        found.fresh = False
        assert found.at(10 * number - 1).at_ms == number


def test_a_thread_looks_by_itself_and_once_more_at_the_end(tmp_path):
    with a_log(tmp_path) as log:
        with Keeper([log.path], file_bytes_max=FILE).at_work():
            log.lines(12)
        assert log.path.stat().st_size < FILE
        assert texts(logs.tail({"a": log.path}, None)) == numbered(*range(12))


@pytest.mark.parametrize("blind", [False, True])
def test_a_thread_looks_when_something_is_written_and_rests_while_nothing_is(
    tmp_path, monkeypatch, blind
):
    looks = []
    monkeypatch.setattr(Keeper, "look", lambda _: looks.append(1) or False)
    if blind:
        monkeypatch.setattr(writes, "_libc", SimpleNamespace(inotify_init1=lambda _: -1))
    path = tmp_path / "a.log"
    path.touch()
    with Keeper([path]).at_work(), path.open("ab", buffering=0) as log:
        for _ in range(20):  # also while it looks and while it rests
            before = len(looks)
            log.write(b"x")
            until(lambda: len(looks) > before)  # noqa: B023  asked at once
        time.sleep(3 * keeper.LOOK_S)
        before = len(looks)
        time.sleep(10 * keeper.LOOK_S)
        assert (len(looks) > before + 5) is blind
        assert blind or len(looks) == before


def until(holds):
    end = time.monotonic() + 2
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.002)
