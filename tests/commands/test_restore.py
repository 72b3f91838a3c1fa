"""Restoring puts new files in the place of old ones: all of them, or none."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from mesh.commands import cut, output
from mesh.commands.restore import KEPT_MAX, REPLACED, Place, _swap, _tidy
from mesh.errors import Broken


@pytest.fixture
def project(tmp_path):
    (tmp_path / "run").mkdir()
    return SimpleNamespace(data=tmp_path)


@pytest.fixture
def places(tmp_path):
    found = []
    for name in ("auth", "user", "order"):
        place = Place(name, tmp_path / name / f"{name}.db", "sqlite://")
        place.draft.parent.mkdir(parents=True)
        place.file.write_text("old")
        place.file.with_name(f"{name}.db-wal").write_text("old wal")
        place.draft.write_text("new")
        found.append(place)
    return found


def content(place):
    wal = place.file.with_name(f"{place.file.name}-wal")
    return place.file.read_text(), wal.read_text() if wal.exists() else None


def test_all_are_replaced_and_the_old_ones_are_kept_aside(project, places):
    kept = _swap(project, places, "1")
    assert [content(place) for place in places] == [("new", None)] * 3
    assert [
        (aside / f"{p.name}.db").read_text() for aside, p in zip(kept, places, strict=True)
    ] == ["old"] * 3
    assert (kept[0] / "auth.db-wal").read_text() == "old wal"


@pytest.mark.parametrize("absent", range(3))
def test_when_one_cannot_be_replaced_all_old_ones_are_back(project, places, absent):
    places[absent].draft.unlink()
    with pytest.raises(Broken, match="nothing was restored"):
        _swap(project, places, "1")
    assert [content(place) for place in places] == [("old", "old wal")] * 3


def test_only_the_newest_replaced_ones_are_kept(project, places):
    for number in range(KEPT_MAX + 2):
        for place in places:
            place.draft.parent.mkdir(exist_ok=True)
            place.draft.write_text(f"new {number}")
        _swap(project, places, str(number))
        _tidy(places)
    left = sorted(path.name for path in places[0].folder.glob(f"{REPLACED}*"))
    assert left == [f"{REPLACED}{number}" for number in range(2, KEPT_MAX + 2)]
    assert not places[0].draft.parent.exists()


def test_restores_that_failed_push_out_nothing_that_is_kept(project, places):
    _swap(project, places, "1")
    for number in range(2, KEPT_MAX + 2):
        with pytest.raises(Broken):
            _swap(project, places, str(number))
        _tidy(places)
    left = [path.name for path in places[0].folder.glob(f"{REPLACED}*")]
    assert left == [f"{REPLACED}1"]


@pytest.mark.parametrize("words", [("nobody",), ("--adopt", "ordr")])
def test_what_is_not_there_is_told_at_once_and_nothing_is_made(mesh, here, words, monkeypatch):
    done = mesh("restore", *words)
    assert done.code in {1, 2}, done
    assert not (here / "data").exists()
    monkeypatch.setattr(cut, "TURN_S", 0.0)
    with cut.alone(SimpleNamespace(data=here / "data"), output.Live()):
        assert mesh("restore", *words).err == done.err
