"""Copies that owners leave: one run's at a time, and whoever has the folder, only a file is taken."""

from __future__ import annotations

import os
import threading
from types import SimpleNamespace

import pytest

from mesh.commands import cut, output
from mesh.commands.cut import alone, take_in
from mesh.errors import ServiceUnavailable, Unavailable


@pytest.fixture
def data(tmp_path):
    for name in ("order", "user", "backups"):
        (tmp_path / name).mkdir()
    (tmp_path / "user" / "user.db").write_text("precious")
    return tmp_path


def test_copy_moves_into_its_place(data):
    (data / "order" / "order.backup").write_text("copied")
    take_in(data / "order" / "order.backup", data / "backups" / "order.db")
    assert (data / "backups" / "order.db").read_text() == "copied"
    assert list((data / "order").iterdir()) == []


def _link(data):
    (data / "order" / "order.backup").symlink_to(data / "user" / "user.db")


def _folder_that_is_a_link(data):
    (data / "user" / "order.backup").write_text("precious")
    (data / "order").rmdir()
    (data / "order").symlink_to(data / "user")


def _pipe(data):
    os.mkfifo(data / "order" / "order.backup")


def _folder(data):
    (data / "order" / "order.backup").mkdir()


def _nothing(_data):
    pass


@pytest.mark.parametrize("left", [_link, _folder_that_is_a_link, _pipe, _folder, _nothing])
def test_what_is_no_file_is_refused_and_nothing_of_others_is_touched(data, left):
    left(data)
    with pytest.raises(ServiceUnavailable, match=r"order\.backup"):
        take_in(data / "order" / "order.backup", data / "backups" / "order.db")
    assert (data / "user" / "user.db").read_text() == "precious"
    assert not (data / "backups" / "order.db").is_file()


def test_second_run_waits_for_the_first(tmp_path):
    project, order = SimpleNamespace(data=tmp_path), []

    def second():
        with alone(project, output.Live()):
            order.append("second")

    with alone(project, output.Live()):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(4 * cut.LOOK_S)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_who_waits_too_long_is_told_why(tmp_path, monkeypatch):
    monkeypatch.setattr(cut, "TURN_S", 0.0)
    project = SimpleNamespace(data=tmp_path)
    late = alone(project, output.Live())
    with alone(project, output.Live()), pytest.raises(Unavailable, match="another backup"), late:
        pass
    with alone(project, output.Live()):
        pass
