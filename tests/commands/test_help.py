"""What `mesh` says of itself and of wrong usage, literally, at 100 columns."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from mesh.cli import EXIT_CODES, VERBS, exit_code
from mesh.commands.verb import VerbCommand
from mesh.errors import MeshError


def found(*words):
    """The click command that these words name."""
    command = importlib.import_module(f"mesh.commands.{words[0]}").command
    for word in words[1:]:
        command = command.commands[word]
    return command


def within(*words):
    """These words, and those of every command within them."""
    yield words
    for member in getattr(found(*words), "commands", ()):
        yield from within(*words, member)


WORDS = [words for name in VERBS for words in within(name)]
COMMANDS = [words for words in WORDS if not isinstance(found(*words), click.Group)]


@pytest.mark.parametrize(
    "args",
    [(), ("--help",), *[(*words, "--help") for words in WORDS]],
    ids=lambda args: "-".join(("mesh", *args)),
)
def test_help_is_as_it_was(mesh, snapshot, args):
    done = mesh(*args)
    assert done.code == 0
    assert done.err == ""
    snapshot("-".join(("mesh", *args)).replace("---", "-"), done)


WRONG = {
    "command": ["stauts"],
    "command-of-a-group": ["events", "tial"],
    "command-of-a-group-missing": ["chaos"],
    "command-of-a-group-of-a-group-missing": ["events", "parked"],
    "option": ["ps", "--jsno"],
    "global-option": ["--fiel", "x"],
    "argument": ["version", "now"],
    "argument-missing": ["stop"],
    "choice": ["wait", "--for", "radey"],
    "number": ["wait", "--timeout", "soon"],
    "number-that-is-none": ["exercise", "--duration", "nan"],
    "color": ["--color", "sometimes", "ps"],
    "service": ["up", "ordr"],
    "service-to-stop": ["stop", "produt"],
    "service-to-wait-for": ["wait", "ordre"],
    "service-whose-logs": ["logs", "ordr"],
    "service-to-call": ["call", "prodct", "list"],
    "signal": ["kill", "-s", "TREM", "order"],
    "log-level": ["logs", "--level", "warnings"],
    "log-count": ["logs", "-n", "some"],
    "log-time": ["logs", "--since", "yesterday"],
    "log-pattern": ["logs", "--search", "("],
    "fault": ["chaos", "laetncy", "order"],
    "fault-target": ["chaos", "pause", "ordr"],
    "fault-rate": ["chaos", "error", "order", "--rate", "2"],
    "fault-of-an-exercise": ["exercise", "--chaos", "kill,puase"],
    "scenario": ["exercise", "brwose"],
    "assertion": ["exercise", "--assert", "p98<200ms"],
    "event-data": ["events", "publish", "demo.greeted", "-d", "{"],
    "backup": ["restore", "nightly"],
    "backup-name": ["backup", "../x"],
    "file-to-adopt": ["restore", "--adopt", "ordr"],
    "stream": ["events", "tail", "--stream", "prodct"],
    "where": ["events", "tail", "--where", "sku"],
    "parked-service": ["events", "parked", "ls", "ordr"],
    "parked-id": ["events", "parked", "show", "order", "17"],
    "parked-retry-of-nothing": ["events", "parked", "retry", "order"],
    "parked-retry-of-both": ["events", "parked", "retry", "order", "0" * 32, "--all"],
    "project-name": ["-p", "../x", "up"],
    "project-named-like-a-service": ["-p", "order", "up", "-d"],
    "volumes-without-a-terminal": ["down", "-v"],
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_usage_is_answered_at_once_with_a_way_out(mesh, snapshot, case):
    done = mesh(*WRONG[case])
    assert done.code == 2
    assert done.out == ""
    snapshot(f"wrong-{case}", done)


NOTHING = {
    "exercise": ["exercise"],
    "ps": ["ps"],
    "ps-json": ["ps", "--json"],
    "ps-quiet": ["ps", "-q"],
    "start": ["start", "order"],
    "stop": ["stop", "order"],
    "restart": ["restart", "order"],
    "kill": ["kill", "order"],
    "wait": ["wait"],
    "wait-idle": ["wait", "--for", "idle"],
    "lag": ["events", "lag"],
    "parked": ["events", "parked", "ls"],
    "parked-show": ["events", "parked", "show", "order", "0" * 32],
    "call": ["call"],
    "call-service": ["call", "order"],
    "call-operation": ["call", "order", "create"],
    "call-help": ["call", "order", "create", "--help"],
    "events": ["events", "tail"],
    "chaos": ["chaos", "pause", "order"],
    "events-publish": ["events", "publish", "demo.greeted", "-d", "{}"],
}


@pytest.mark.parametrize("case", NOTHING)
def test_with_nothing_running_the_exit_code_is_3(mesh, snapshot, case):
    done = mesh(*NOTHING[case])
    assert done.code == 3
    snapshot(f"nothing-runs-{case}", done)


def test_with_nothing_running_down_is_done_and_so_is_waiting_for_it(mesh, snapshot):
    done = mesh("down")
    assert done.code == 0
    snapshot("nothing-runs-down", done)
    assert mesh("wait", "--for", "down", "--timeout", "0").code == 0


def test_logs_can_be_asked_for_when_nothing_was_ever_logged(mesh, snapshot):
    done = mesh("logs")
    assert done.code == 0
    snapshot("nothing-runs-logs", done)


def test_an_invalid_configuration_is_told_whole_with_exit_code_6(mesh, here, snapshot):
    (here / "mesh.yaml").write_text(
        "name: shop\nbus: zmq://\nservices:\n  order:\n    module: mesh.services.order\n"
        "    prot: 7004\n    calls: [prodct]\n    restart: maybe\n  product: {command: []}\n"
    )
    for args in (["config"], ["up"], ["ps"], ["logs"], ["down", "-v", "--yes"]):
        done = mesh(*args)
        assert done.code == 6
        if args == ["config"]:
            snapshot("invalid-configuration", done)


def test_down_and_ps_ask_for_the_file_only_when_nothing_runs(mesh, here):
    (here / "mesh.yaml").write_text("broken: [")
    assert mesh("down").code == 0
    assert mesh("ps").code == 6


def test_a_file_that_is_not_there_is_a_matter_of_configuration(mesh, snapshot):
    done = mesh("-f", "nowhere.yaml", "ps")
    assert done.code == 6
    snapshot("no-such-file", done)


def test_the_debug_flag_adds_the_traceback_and_changes_nothing_else(mesh):
    plain, debug = mesh("stop", "nobody"), mesh("--debug", "stop", "nobody")
    assert "Traceback" not in plain.err
    assert debug.err.startswith("Traceback")
    assert debug.err.endswith(plain.err)
    assert (plain.code, debug.code) == (2, 2)


def test_a_bug_is_told_in_the_same_shape(mesh, monkeypatch):
    import mesh.commands.version as verb

    def fail(*_):
        raise ZeroDivisionError("ouch")

    monkeypatch.setattr(verb.platform, "python_version", fail)
    done = mesh("version")
    assert done.code == 1
    assert done.err.splitlines()[0] == "error: ZeroDivisionError: ouch  [internal]"
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    "args", [["verify"], ["backup", "x"], ["restore", "x"], ["logs"], ["down"]]
)
def test_a_place_that_cannot_hold_data_is_no_bug(mesh, tmp_path, args):
    file = tmp_path / "file"
    file.write_text("")
    done = mesh("--data-dir", str(file), *args)
    assert done.code in {0, 1, 2}
    assert "[internal]" not in done.err
    if args[0] in {"verify", "backup"}:
        assert done.err.splitlines()[0].endswith(": not a directory  [file-system]")
        assert str(file) in done.err


def test_an_interrupt_ends_with_130_and_no_words(mesh, monkeypatch):
    import mesh.commands.version as verb

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(verb.platform, "python_version", interrupt)
    assert mesh("version").code == 130


@pytest.mark.parametrize("name", VERBS)
def test_each_verb_is_one_file_that_agrees_with_the_table(name):
    command = importlib.import_module(f"mesh.commands.{name}").command
    assert isinstance(command, click.Command)
    assert (command.help or "").startswith(VERBS[name].summary.rstrip("."))


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_each_help_leads_with_examples_that_parse(words):
    command = found(*words)
    assert isinstance(command, VerbCommand)
    assert 2 <= len(command.examples) <= 6
    typed = f"mesh {' '.join(words)}"
    assert all(typed in example or "mesh -" in example for example in command.examples)


def every_error(shape=MeshError):
    yield shape
    for below in shape.__subclasses__():
        yield from every_error(below)


def test_every_error_has_an_exit_code_of_the_contract():
    codes = {code for _, code in EXIT_CODES}
    assert codes == {1, 2, 3, 4, 5, 6, 7}
    for shape in every_error():
        assert exit_code(shape.__new__(shape)) in codes


HEAVY = ("aiohttp", "zmq", "rich", "yaml", "msgspec", "asyncio", "mesh.config", "mesh.client")


@pytest.mark.e2e
@pytest.mark.parametrize("args", [["--help"], ["version"], [], ["stauts"]])
def test_what_asks_nothing_loads_nothing_heavy(args):
    script = (
        "import sys\nfrom mesh.cli import run\nrun(sys.argv[1:])\n"
        f"sys.exit(str([name for name in {HEAVY} if name in sys.modules] or ''))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *args],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
        env=os.environ,
    )
    assert done.stderr.splitlines()[-1:] in ([], [""], ["hint: mesh --help"]), done.stderr
