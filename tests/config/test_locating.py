"""Where a configuration is found, and where its data lies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mesh
from mesh.configs import durations
from mesh.configs.locate import built_in, data_directory, locate
from mesh.errors import WrongUsage


def write(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("services: {a: {command: x}}\n")
    return path


def test_locate_finds_the_file_here_before_that_in_configs(tmp_path):
    here, _ = write(tmp_path / "mesh.yaml"), write(tmp_path / "configs" / "mesh.yaml")
    found = locate(None, env={}, cwd=tmp_path)
    assert (found.file, found.root) == (here, tmp_path)


def test_locate_takes_the_root_above_configs(tmp_path):
    file = write(tmp_path / "configs" / "mesh.yaml")
    assert locate(None, env={}, cwd=tmp_path).root == tmp_path
    assert locate(None, env={}, cwd=tmp_path / "configs").root == tmp_path / "configs"
    assert locate(str(file), env={}, cwd=tmp_path).root == tmp_path


def test_locate_looks_in_parents(tmp_path):
    file = write(tmp_path / "configs" / "mesh.yaml")
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    found = locate(None, env={}, cwd=deep)
    assert (found.file, found.root) == (file, tmp_path)


def test_locate_prefers_the_option_to_the_variable_to_the_folder(tmp_path):
    write(tmp_path / "mesh.yaml")
    option, variable = write(tmp_path / "o.yaml"), write(tmp_path / "v.yaml")
    env = {"MESH_FILE": "v.yaml"}
    assert locate("o.yaml", env=env, cwd=tmp_path).file == option
    assert locate(None, env=env, cwd=tmp_path).file == variable


def test_locate_falls_back_to_the_shop_with_its_root_here(tmp_path):
    found = locate(None, env={}, cwd=tmp_path)
    assert (found.file, found.root) == (built_in(), tmp_path)


def test_the_built_in_file_is_that_of_the_checkout_when_none_is_packaged():
    root = Path(mesh.__file__).parent.parent
    assert built_in() in {root / "configs" / "mesh.yaml", root / "mesh" / "configs" / "mesh.yaml"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_locate_refuses_a_strangers_file_in_a_parent(tmp_path):
    file = write(tmp_path / "mesh.yaml")
    os.chown(file, 12345, -1)
    (tmp_path / "below").mkdir()
    with pytest.raises(WrongUsage) as raised:
        locate(None, env={}, cwd=tmp_path / "below")
    assert raised.value.hint == f"if you trust it: mesh -f {file} …"
    assert locate(None, env={}, cwd=tmp_path).file == file
    assert locate(str(file), env={}, cwd=tmp_path / "below").file == file


@pytest.mark.parametrize(
    ("option", "project", "env", "expected"),
    [
        (None, None, {}, "/root/of/it/data"),
        (None, "two", {}, "/root/of/it/data/two"),
        (None, None, {"MESH_DATA_DIR": "/var/mesh"}, "/var/mesh"),
        (None, "two", {"MESH_DATA_DIR": "/var/mesh"}, "/var/mesh/two"),
        ("/opt/x", None, {"MESH_DATA_DIR": "/var/mesh"}, "/opt/x"),
        ("rel/../x", None, {}, "/here/x"),
    ],
)
def test_data_lies_where_it_is_said(option, project, env, expected):
    found = data_directory(
        Path("/root/of/it"), option=option, project=project, env=env, cwd=Path("/here")
    )
    assert found == Path(expected)


@pytest.mark.parametrize("name", ["", "..", "a/b", "A", "-x", "x" * 32, "run", "logs", "a\n"])
def test_a_project_name_cannot_leave_the_folder(name):
    with pytest.raises(WrongUsage):
        data_directory(Path("/r"), option=None, project=name, env={}, cwd=Path("/here"))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10s", 10), ("1m30s", 90), ("500ms", 0.5), ("1h", 3600), ("1.5s", 1.5), ("2d", 172_800)],
)
def test_durations_are_read(text, seconds):
    assert durations.parse_s(text) == pytest.approx(seconds)


@given(st.text(max_size=12))
def test_a_duration_is_read_or_refused_but_never_fails(text):
    found = durations.parse_s(text)
    assert found is None or found >= 0
