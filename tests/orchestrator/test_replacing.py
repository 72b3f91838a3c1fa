"""Files are replaced all or none, whoever is killed meanwhile, and nobody begins on them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mesh.errors import AlreadyRunning, Broken
from mesh.orchestrator import replacing, state

NAMES = ("auth", "order")
MOVES = 3 * len(NAMES)

KILLED = """
import os, pathlib, signal, sys
from mesh.orchestrator import replacing
from tests.orchestrator.test_replacing import moves
left, rename = int(sys.argv[2]), pathlib.Path.rename

def killing(source, target):
    global left
    if source.suffix.startswith(".db"):
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
    return rename(source, target)

data = pathlib.Path(sys.argv[1])
with replacing.held(data):
    pathlib.Path.rename = killing
    replacing.carry_out(data, moves(data))
"""


def moves(data):
    found = []
    for name in NAMES:
        folder = data / name
        found += [
            (folder / f"{name}.db{end}", folder / "aside" / f"{name}.db{end}")
            for end in ("", "-wal")
        ]
        found.append((folder / "new" / f"{name}.db", folder / f"{name}.db"))
    return found


@pytest.fixture
def data(tmp_path):
    (tmp_path / "run").mkdir()
    for name in NAMES:
        for folder in ("aside", "new"):
            (tmp_path / name / folder).mkdir(parents=True)
        (tmp_path / name / f"{name}.db").write_text("old")
        (tmp_path / name / f"{name}.db-wal").write_text("old")
        (tmp_path / name / "new" / f"{name}.db").write_text("new")
    return tmp_path


def content(data):
    files = sorted(path for path in data.rglob("*") if path.is_file())
    return {str(path.relative_to(data)): path.read_text() for path in files}


REPLACED = {
    f"{name}/{file}": text
    for name in NAMES
    for file, text in (
        (f"aside/{name}.db", "old"),
        (f"aside/{name}.db-wal", "old"),
        (f"{name}.db", "new"),
    )
}


def killed(data, after):
    """One who replaces files was killed before this move."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, data, str(after)], check=False, cwd=Path.cwd()
    )
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize("after", range(MOVES))
def test_whoever_comes_after_one_who_was_killed_makes_the_moves_that_are_left(data, after):
    killed(data, after)
    assert content(data) != REPLACED
    with state.locked(data):
        assert {name: text for name, text in content(data).items() if "run" not in name} == REPLACED
    assert content(data) == REPLACED
    assert not replacing.settle(data)


def test_whoever_replaces_files_next_finds_them_all_replaced(data):
    killed(data, 2)
    with replacing.held(data):
        assert content(data) == REPLACED


def test_moves_are_made_where_the_folder_has_been_moved_to(data):
    killed(data, 2)
    moved = data.rename(data.with_name("elsewhere"))
    assert replacing.settle(moved)
    assert content(moved) == REPLACED
    assert not data.exists()


@pytest.mark.parametrize("text", ["", "1", "[1]", None], ids=repr)
def test_moves_that_cannot_be_read_are_not_taken_for_none(data, text):
    plan = data / "run" / "replacing.json"
    plan.mkdir() if text is None else plan.write_text(text)
    with pytest.raises(Broken, match="cannot be read") as refused, state.locked(data):
        pass
    assert str(plan) in refused.value.hint
    assert plan.exists()


def test_folder_that_is_gone_is_told_as_what_it_is(tmp_path):
    with pytest.raises(Broken, match="elsewhere: No such file"):
        replacing.settle(tmp_path / "elsewhere")


def test_interrupt_is_heard_when_all_is_moved(data, monkeypatch):
    rename = Path.rename

    def interrupting(source, target):
        os.kill(os.getpid(), signal.SIGINT)
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", interrupting)
    with pytest.raises(KeyboardInterrupt):
        replacing.carry_out(data, moves(data))
    assert content(data) == REPLACED


def test_nothing_is_moved_when_one_cannot_be(data):
    before = content(data)
    with pytest.raises(Broken, match="nothing was restored"):
        replacing.carry_out(data, [*moves(data), (data / "nobody", data / "order" / "nobody")])
    assert content(data) == before


def test_no_mesh_begins_while_files_are_replaced(data):
    with replacing.held(data):
        with pytest.raises(AlreadyRunning, match="a restore replaces"), state.locked(data):
            pass
        with pytest.raises(AlreadyRunning, match="a restore replaces"), replacing.held(data):
            pass
    with state.locked(data):
        pass


def test_lock_says_what_its_holder_does(data):
    with state.locked(data, "its databases are being copied"):
        with pytest.raises(AlreadyRunning) as refused, state.locked(data):
            pass
        assert refused.value.detail == f"its databases are being copied (pid {os.getpid()})"
        assert refused.value.hint == "try again when that has ended"
