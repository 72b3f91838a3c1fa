"""Programs made of a configuration, the configuration printed again, and the check-up."""

from __future__ import annotations

import json
import os
import socket
import stat
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.commands import begin, checkup, resolved
from mesh.commands.options import Options
from mesh.commands.programs import Programs, chosen
from mesh.commands.project import Project
from mesh.config import Healthcheck
from mesh.configs import load

if TYPE_CHECKING:
    from pathlib import Path

SHOP = """
name: shop
bus: zmq://
services:
  auth: {module: mesh.services.auth, port: 7001}
  product: {module: mesh.services.product, calls: [auth], seed: {products: [{sku: "$$1"}]}}
  order:
    module: mesh.services.order
    calls: [product, auth]
    depends_on: {bus: {condition: service_healthy}}
    environment: {MESH_PROJECT: other, LEVEL: debug}
    env_file: .env
  worker: {command: [sh, -c, sleep 9], healthcheck: {disable: true}}
  web: {command: [node, server.js], port: 8080, calls: [order], healthcheck: {test: http /}}
"""


@pytest.fixture
def project(here: Path) -> Project:
    (here / "mesh.yaml").write_text(SHOP)
    (here / ".env").write_text("LEVEL=info\nFROM_FILE='yes'\n")
    return Project(Options())


def test_a_start_brings_whom_it_waits_for_asks_and_tells(project):
    def start(*names, no_deps=False):
        return chosen(project.config, names, no_deps=no_deps)

    assert start() == ["auth", "product", "order", "worker", "web", "bus"]
    assert start("product") == ["auth", "product", "bus"]
    assert start("web") == ["auth", "product", "order", "web", "bus"]
    assert start("worker") == ["worker"]
    assert start("order", no_deps=True) == ["order"]


def test_a_service_of_ours_is_told_where_everything_is(project, here):
    order = next(program for program in Programs(project).all if program.name == "order")
    data = here / "data"
    assert order.entry == "mesh.framework.process:run"
    assert order.args == ("mesh.services.order",)
    assert order.peers == ("product", "auth")
    assert order.working_dir == str(here)
    assert order.environment == {
        "MESH_PROJECT": "other",
        "MESH_DATA_DIR": f"{data}/order",
        "DATABASE_URL": "sqlite://",
        "PYTHONUNBUFFERED": "1",
        "MESH_IDENTITY_FILE": f"{data}/run/identity/order.json",
        "MESH_BUS_URL": f"zmq://{project.sockets}/bus",
        "TMPDIR": f"{data}/order/tmp",
        "LEVEL": "debug",
        "FROM_FILE": "yes",
    }


def test_other_programs_get_no_secret_and_the_bus_is_one_of_them(project):
    found = {program.name: program for program in Programs(project).all}
    assert list(found) == ["auth", "product", "order", "worker", "web", "bus"]
    web, worker, bus = found["web"], found["worker"], found["bus"]
    assert (web.command, web.port, web.socket) == (("node", "server.js"), 8080, "own")
    assert set(web.environment) == {
        "MESH_PROJECT",
        "MESH_DATA_DIR",
        "MESH_TOKEN_FILE",
        "DATABASE_URL",
        "PYTHONUNBUFFERED",
        "TMPDIR",
    }
    data = project.data
    assert web.environment["DATABASE_URL"] == f"sqlite:///{data}/web/web.db"
    assert web.environment["MESH_TOKEN_FILE"] == web.tokens == f"{data}/run/tokens/web/tokens.json"
    assert web.audiences == ("order", "bus")
    assert (worker.port, worker.health) == (None, Healthcheck(("NONE",)))
    assert web.addresses == {"MESH_EVENTS_URL": "bus/events"}
    assert (bus.entry, bus.port) == ("mesh.bus:serve", 0)
    assert bus.environment["MESH_GUESTS"] == "worker web"


def walled(project, name, **asked):
    programs = Programs(project, **asked)
    return next(program for program in programs.all if program.name == name)


def test_a_program_sees_its_own_files_and_the_project_but_nobodys_data(project, here):
    order, bus, data = walled(project, "order"), walled(project, "bus"), here / "data"
    assert (order.writes, order.hidden) == ((f"{data}/order",), (str(data),))
    assert set(order.reads) == {str(here)}
    assert set(order.sandbox.read) == {
        f"{data}/run/identity/order.json",
        f"{data}/run/seed/order.json",
        f"{data}/run/tokens/order",
    }
    assert bus.writes == (f"{data}/bus", str(project.sockets / "bus"))
    assert bus.sandbox.read == (f"{data}/run/identity/bus.json",)
    assert bus.sandbox.network == "peers"
    for program in Programs(project, no_sandbox=True).all:
        assert program.sandbox.mode == "off"
        assert "TMPDIR" not in program.environment


def test_meshes_side_by_side_do_not_see_one_anothers_data(project, here):
    beside = Project(Options(name="two"))
    assert walled(beside, "order").writes == (f"{here}/data/two/order",)
    assert walled(beside, "order").hidden == (f"{here}/data",)
    around = Project(Options(data=str(here)))
    assert f"{here}/run" in walled(around, "order").hidden
    assert str(here) not in walled(around, "order").hidden


def test_the_built_in_shop_reads_nothing_of_the_folder_it_is_begun_in(tmp_path):
    shop = Project(Options(), env={}, cwd=tmp_path)
    assert walled(shop, "order").reads == ()
    assert walled(shop, "order").sandbox.network == "peers"


def test_identities_and_seeds_are_the_owners_alone(project, here):
    programs = Programs(project)
    run = here / "data" / "run"
    (run / "seed").mkdir(parents=True)
    (run / "seed" / "gone.json").write_text("{}")
    before = os.umask(0o022)
    try:
        mint = programs.prepare()
    finally:
        os.umask(before)
    assert mint("operator", "order").count(".") == 2
    assert json.loads((run / "seed" / "product.json").read_text()) == {"products": [{"sku": "$1"}]}
    assert not (run / "seed" / "gone.json").exists()
    written = [path for path in run.rglob("*") if path.is_file()]
    assert {path.name for path in written} >= {"order.json", "product.json", "web.json"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in written} == {0o600}
    assert {stat.S_IMODE((here / "data" / name).stat().st_mode) for name in ("auth", "order")} == {
        0o700
    }


def test_config_prints_a_configuration_that_means_the_same(mesh, project, here):
    printed = mesh("config").out
    (here / "again.yaml").write_text(printed)
    first = load("mesh.yaml", env={}, cwd=here)
    again = load("again.yaml", env={}, cwd=here)
    assert again.services == first.services
    assert (again.name, again.bus) == (first.name, first.bus)
    said = mesh("config", "--json")
    assert json.loads(said.out)["schema"] == "mesh.config/1"
    assert mesh("config", "-q").out == ""


def test_the_project_name_is_the_option_when_there_is_one(mesh, project):
    assert json.loads(mesh("-p", "two", "config", "--json").out)["config"]["name"] == "two"
    assert json.loads(mesh("-p", "two", "config", "--json").out)["data_dir"].endswith("/data/two")


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53)
    | st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn", "Zl", "Zp"]))
    | st.sampled_from(["no", "010", "0o7", "1e3", ".5", "12:30", "~", "null", "True", "$", "${A}", "=", "- a", "#", "a: b", "x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.from_regex(r"[a-z$.~ -]{1,5}", fullmatch=True), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@settings(deadline=None)
@given(PLAIN)
def test_any_seed_is_printed_so_that_it_reads_the_same(tmp_path_factory, value):
    file = tmp_path_factory.mktemp("seed") / "mesh.yaml"
    document = {"services": {"a": {"command": ["x"], "seed": {"value": value}}}}
    file.write_text(resolved.as_yaml(document), encoding="utf-8")
    assert load(str(file), env={}, cwd=file.parent).services["a"].seed == {"value": value}


@pytest.mark.parametrize(
    ("version", "has"),
    [
        ((3, 6, 23), False), ((3, 7, 0), True), ((3, 40, 1), True), ((3, 44, 5), True),
        ((3, 44, 6), False), ((3, 45, 0), True), ((3, 50, 6), True), ((3, 50, 7), False),
        ((3, 51, 2), True), ((3, 51, 3), False),
    ],
)  # fmt: skip
def test_the_verdict_on_a_release_of_sqlite_is_right(version, has):
    assert checkup.wal_reset_bug(version) is has


def test_doctor_finds_nothing_wrong_and_leaves_nothing_behind(mesh, here):
    done = mesh("doctor", "--json")
    checks = {check["name"]: check for check in json.loads(done.out)["checks"]}
    assert list(checks) == ["python", "sqlite", "ports", "sockets", "sandbox", "configuration"]
    assert checks["sqlite"]["status"] == "pass"
    assert checks["configuration"]["status"] == "pass"
    assert sorted(path.name for path in here.iterdir()) == ["mesh.yaml"]


def test_doctor_names_who_holds_a_port_and_what_is_wrong_with_the_file(mesh, here):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (here / "mesh.yaml").write_text(f"services: {{web: {{command: x, port: {port}}}}}")
        done = mesh("doctor")
    assert done.code == 1
    held = next(line for line in done.out.splitlines() if " ports " in line)
    assert held.split(None, 2)[2].startswith(f"{port} (web) is held by pid {os.getpid()}")
    assert "fix: mesh up --free-ports" in done.out
    (here / "mesh.yaml").write_text("prot: 1")
    assert "mesh.yaml:1:1: prot: unknown key" in mesh("doctor").out


def test_down_deletes_this_meshes_data_and_nothing_else(mesh, here):
    data = here / "data"
    for name in ("order", "bus", "logs", "run", "two", "kept"):
        (data / name).mkdir(parents=True)
        (data / name / "file").write_text("x")
    (here / "elsewhere").mkdir()
    (data / "product").symlink_to(here / "elsewhere")
    done = mesh("down", "-v", "--yes")
    assert done.code == 0
    assert sorted(path.name for path in data.iterdir()) == ["kept", "product", "two"]
    assert (here / "elsewhere").is_dir()


def test_starter_begins_with_what_the_built_in_shop_preloads(tmp_path):
    shop = Project(Options(), env={}, cwd=tmp_path)
    assert Programs(shop).preload == begin.USUAL
