"""`mesh exercise` on the real shop: load, faults, a verdict, and what is left when it is wrong."""

from __future__ import annotations

import json
import signal
import socket
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.support.own import greeter_mesh
from tests.support.running import SHOP, USUAL, RunningMesh, eventually

if TYPE_CHECKING:
    import subprocess

CHAOS = "kill,pause,drop,dup,reorder"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory):
    running = RunningMesh(tmp_path_factory.mktemp("shop"), environment=USUAL).up()
    try:
        yield running
    finally:
        running.down()


def exercised(mesh: RunningMesh, *args: str, exit_code: int = 0) -> dict:
    done = mesh.run("exercise", *args, "--json", exit_code=exit_code)
    return json.loads(done.stdout)


def test_load_alone_loses_nothing_and_leaves_nothing(mesh: RunningMesh):
    found = exercised(
        mesh, "--rate", "20", "--duration", "4", "--seed", "1", "--assert", "failed==0"
    )
    assert found["ok"] is True
    assert (found["failed"], found["unknown"]) == (0, 0)
    assert found["completed"] == found["offered"] > 100
    assert found["verify"]["ok"] is True
    assert found["history"]["judged"] == 2 * found["offered"]
    assert set(found["latency_ms"]) >= {"p50", "p90", "p99", "max"}
    assert found["assertions"] == [{"text": "failed==0", "found": 0.0, "ok": True, "unit": ""}]
    assert found["evidence"] is None
    assert not (mesh.directory / "data" / "exercise").exists()


def test_assertion_that_does_not_hold_ends_with_7_and_keeps_the_evidence(mesh: RunningMesh):
    done = mesh.run(
        *("exercise", "browse", "--rate", "20", "--duration", "1", "--seed", "3"),
        *("--assert", "p50<0.001ms"),
        exit_code=7,
    )
    assert "✗ wrong  asserted  p50<0.001ms" in done.stdout
    repeat = "mesh exercise browse --rate 20 --duration 1 --seed 3 --assert 'p50<0.001ms'"
    assert repeat in done.stdout
    assert repeat in done.stderr
    (folder,) = (mesh.directory / "data" / "exercise").iterdir()
    assert str(folder) in done.stdout
    assert {path.name for path in folder.iterdir()} >= {"history.jsonl", "report.json", "databases"}
    assert folder.stat().st_mode & 0o077 == 0


def test_faults_are_survived_and_every_unknown_is_resolved(tmp_path):
    mesh = RunningMesh(tmp_path, environment=USUAL).up()
    try:
        found = exercised(mesh, "--rate", "15", "--duration", "14", "--seed", "4", "--chaos", CHAOS)
        done = [each for each in found["faults"] if each["refused"] is None]
        assert {each["fault"]["kind"] for each in done} == {*CHAOS.split(",")}
        assert found["ok"] is True
        history = found["history"]
        assert history["unknown"] == history["happened"] + history["not_happened"]
        assert found["unknown"] == found["failed"] == 0, (
            "each was asked again until it was answered"
        )
    finally:
        mesh.down()


def test_killed_supervisor_is_brought_up_again_as_it_was_begun(tmp_path):
    """Also where the configured ports cannot be had."""
    from mesh.exercise import chaos

    targets = chaos.Targets(
        ("bus", "auth", "user", "product", "order"), ("auth", "user", "product", "order")
    )
    seed = next(
        seed
        for seed in range(100)
        if chaos.schedule((chaos.Paced("kill"),), targets, duration_s=7, seed=seed)[0].target
        == "supervisor"
    )
    mesh = RunningMesh(tmp_path, environment={**USUAL, "MESH_FREE_PORTS": "0"})
    config = yaml.safe_load(SHOP.read_text())
    taken = socket.create_server(("127.0.0.1", 0))
    config["services"]["order"]["port"] = taken.getsockname()[1]
    (tmp_path / "mesh.yaml").write_text(yaml.safe_dump(config))
    options = ["--free-ports", "--no-sandbox"]
    mesh.up(*options)
    try:
        first = mesh.supervisor()
        found = exercised(
            mesh, "--rate", "15", "--duration", "7", "--seed", str(seed), "--chaos", "kill"
        )
        assert found["faults"][0]["fault"]["target"] == "supervisor"
        assert found["faults"][0]["refused"] is None
        assert found["ok"] is True
        assert found["failed"] == 0, "visitors find the new ports"
        assert mesh.supervisor() != first
        described = json.loads((tmp_path / "data" / "run" / "mesh.json").read_text())
        assert described["options"] == options
    finally:
        mesh.down()
        taken.close()


def test_verdict_amid_a_run_has_no_false_alarm(mesh: RunningMesh):
    process = mesh.start("exercise", "--rate", "25", "--duration", "6", "--seed", "2", "--json")
    looks = 0
    while process.poll() is None:
        found = mesh.json("verify", exit_code=None)
        assert found["ok"], [check for check in found["checks"] if not check["ok"]]
        looks += 1
    out, err = process.communicate()
    assert process.returncode == 0, (out, err)
    assert looks > 1


def admitted(mesh: RunningMesh) -> int:
    """Requests that product has begun."""
    return int(mesh.json("explain", "product")["traffic"]["admission"]["admitted"])


def begun(mesh: RunningMesh, *args: str) -> subprocess.Popen[str]:
    """A run that has a folder by now."""
    folder = mesh.directory / "data" / "exercise"
    before = set(folder.iterdir()) if folder.exists() else set()
    process = mesh.start("exercise", "--rate", "20", "--seed", "1", "--json", *args)
    eventually(lambda: folder.exists() and set(folder.iterdir()) - before, 60)
    return process


def test_run_that_breaks_things_is_alone_and_others_go_together(mesh: RunningMesh):
    breaking = ("--chaos", "kill:every=2", "--on", "order")
    for args, other in (
        (("--duration", "6"), breaking),
        (("--duration", "6", *breaking), ()),
        (("--duration", "6", *breaking), breaking),
    ):
        process = begun(mesh, *args)
        refused = mesh.run("exercise", "--duration", "6", *other, exit_code=1).stderr
        assert "[exercise-under-way]" in refused
        assert "Traceback" not in refused
        assert json.loads(process.communicate(timeout=60)[0])["ok"] is True
        assert process.returncode == 0
    process = begun(mesh, "--duration", "4")
    assert exercised(mesh, "--duration", "2")["ok"] is True
    assert json.loads(process.communicate(timeout=60)[0])["ok"] is True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_run_that_is_terminated_leaves_nothing_broken(mesh: RunningMesh, number: signal.Signals):
    process = begun(mesh, "--duration", "60", "--chaos", "latency:every=1")
    eventually(lambda: mesh.json("chaos", "ls")["faults"], 60)
    process.send_signal(number)
    assert json.loads(process.communicate(timeout=60)[0])["interrupted"] is True
    assert process.returncode == 130
    assert mesh.json("chaos", "ls")["faults"] == []


def test_interrupted_run_reports_what_was_done(mesh: RunningMesh):
    begun_before = admitted(mesh)
    process = begun(mesh, "--duration", "60")
    eventually(lambda: admitted(mesh) > begun_before, 60)  # by visitors alone
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    found = json.loads(out)
    assert process.returncode == 130
    assert found["interrupted"] is True
    assert found["offered"] > 0
    assert found["verify"] is None


def test_run_where_a_service_was_stopped_before_is_judged_without_it(mesh: RunningMesh):
    mesh.run("stop", "order")
    try:
        found = exercised(mesh, "--rate", "20", "--duration", "2", "--seed", "3")
        wrong = mesh.run("exercise", "buy", exit_code=2)
    finally:
        mesh.run("start", "order")
        mesh.run("wait")
    assert found["ok"] is True
    assert found["healed"] is not None
    assert not any(name.startswith("order.") for name in found["operations"])
    assert "hint: mesh start order" in wrong.stderr


def test_what_somebody_else_stopped_meanwhile_is_told(mesh: RunningMesh):
    process = begun(mesh, "--duration", "6")
    before = admitted(mesh)
    eventually(lambda: admitted(mesh) > before, 30)
    mesh.run("stop", "order")
    mesh.run("start", "order")
    out, err = process.communicate(timeout=60)
    mesh.run("wait")
    assert process.returncode == 7
    found = json.loads(out)
    assert found["failed"] + found["unknown"] > 0
    assert any("order: ready -> stopping: asked" in line for line in found["befell"])
    assert "while this happened" in err
    assert found["history"]["wrong"] == []


SCENARIOS = """
from mesh.exercise import Scenario, Visit

async def greet(visit: Visit) -> None:
    \"\"\"Be greeted.\"\"\"
    answer = await visit.ask("greeter.greet", name=visit.name)
    assert visit.name in answer["text"], answer

scenarios = (Scenario("greet", greet),)
"""


def test_users_own_scenario_asks_the_users_own_service(tmp_path):
    mesh = greeter_mesh(tmp_path)
    (tmp_path / "visitors.py").write_text(SCENARIOS)
    config = yaml.safe_load((tmp_path / "mesh.yaml").read_text())
    config["exercise"] = {"scenarios": "visitors.py"}
    (tmp_path / "mesh.yaml").write_text(yaml.safe_dump(config))
    mesh.up()
    try:
        found = exercised(mesh, "greet", "--rate", "20", "--duration", "2")
        assert found["ok"] is True
        assert list(found["operations"]) == ["greeter.greet"]
        wrong = mesh.run("exercise", "great", exit_code=2)
        assert "did you mean `greet`" in wrong.stderr
        (tmp_path / "visitors.py").write_text("scenarios = 7\n")
        wrong = mesh.run("exercise", exit_code=1)
        assert "has no `scenarios = (Scenario(…), …)`" in wrong.stderr
        (tmp_path / "visitors.py").write_text(SCENARIOS.replace("visit.name in", "'Bye' in"))
        wrong = mesh.run("exercise", "greet", "--duration", "2", exit_code=1)
        assert "error: the scenario greet raised AssertionError" in wrong.stderr
        assert f"{tmp_path / 'visitors.py'}:7: assert 'Bye' in answer" in wrong.stderr
        (tmp_path / "visitors.py").write_text(SCENARIOS.replace("greeter.greet", "greeter.gret"))
        wrong = mesh.run("exercise", "greet", "--duration", "2", exit_code=2)
        assert "did you mean `greeter.greet`" in wrong.stderr
        assert not (tmp_path / "data" / "exercise").exists(), (
            "a run that could not be leaves nothing"
        )
        (tmp_path / "visitors.py").write_text(SCENARIOS + "print('hello')\n")
        assert exercised(mesh, "greet", "--duration", "1")["ok"] is True
        table = tmp_path / "myshop" / "greeter.py"
        wrong_query = (
            "    invariants=(Invariant('open', 'none is open', 'SELECT id FROM basket'),),\n"
        )
        said = table.read_text().replace("    listeners=", f"{wrong_query}    listeners=", 1)
        table.write_text(said.replace("import ANYONE,", "import ANYONE, Invariant,", 1))
        done = mesh.run("exercise", "greet", "--duration", "1", exit_code=7)
        assert "error: what was promised could not be judged" in done.stderr
        assert "`open` cannot be asked of greeter: a statement is wrong" in done.stderr
        assert "greeter.greet" in done.stdout, "the report is there all the same"
    finally:
        mesh.down()
