"""No byte of data drives the terminal: the sanitiser, and everything that prints through it."""

from __future__ import annotations

import ast
import json
import os
import pty
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mesh
from mesh import text as plain
from mesh.commands import describe, output, ps
from mesh.commands.cloudevents import cloud_event
from mesh.commands.operations import Document
from mesh.errors import MeshError
from tests.commands.payloads import PAYLOADS

FOREIGN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200b-\u200f\u2028\u2029]"
)
OWN_SEQUENCE = re.compile(r"\x1b\[(?:0|1|2|3[1-6])m")
VISIBLE_FORMATS = {*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD}
"""Format characters that are drawn: Arabic, Syriac and Kaithi signs over numbers."""

COMMANDS = Path(mesh.__file__).parent / "commands"


def test_the_corpus_is_large_enough():
    assert len(PAYLOADS) >= 200


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda text: ascii(text[:20]))
def test_clean_leaves_nothing_that_a_terminal_obeys(payload):
    for cleaned in (output.clean(payload), output.clean_line(payload)):
        assert not FOREIGN.search(cleaned)
        cleaned.encode("utf-8")
    assert "\n" not in output.clean_line(payload)


@given(st.text(st.characters()))
def test_clean_leaves_no_character_that_is_not_seen(text):
    for char in output.clean(text):
        code = ord(char)
        hidden = unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"}
        egyptian = 0x13430 <= code <= 0x13455
        assert char in "\n\t" or not hidden or code in VISIBLE_FORMATS or egyptian, hex(code)


@given(st.text())
def test_clean_changes_nothing_twice(text):
    assert output.clean(output.clean(text)) == output.clean(text)


@given(st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=50))
def test_clean_leaves_what_is_seen_alone(text):
    kept = "".join(char for char in text if char not in "\u115f\u1160\u3164\uffa0\ufffd\ufffc")
    assert output.clean(kept) == kept


@given(st.text(st.characters()))
def test_clean_keeps_json_what_it_was(text):
    assert json.loads(output.clean(json.dumps([text], ensure_ascii=False))) == [text]


def shown(capsys) -> str:
    out, err = capsys.readouterr()
    return out + err


@pytest.mark.parametrize("color", ["never", "always"])
def test_every_way_to_print_is_clean(capsys, color):
    output.configure(color)
    for payload in PAYLOADS:
        output.out(payload, (payload, "bad"))
        output.note(payload)
        output.block(payload)
        output.note_block(payload)
        output.json_block({payload: payload})
        output.json_line({"value": payload.encode("utf-8", "replace").decode()})
        output.table([payload], [[payload], [(payload, "good")]])
        output.failure(MeshError(payload, code=payload, hint=payload, evidence=(payload,)))
    output.configure("auto")
    text = shown(capsys)
    assert not FOREIGN.search(OWN_SEQUENCE.sub("", text))
    assert color == "always" or "\x1b" not in text


def test_json_lines_are_ascii(capsys):
    output.json_line({"name": "\u202e日本\x9b"})
    assert capsys.readouterr().out == '{"name":"\\u202e\\u65e5\\u672c\\u009b"}\n'


@pytest.mark.parametrize("payload", PAYLOADS[::7], ids=lambda text: ascii(text[:20]))
def test_what_services_say_of_themselves_is_clean(capsys, payload):
    schema = {"type": "object", "properties": {payload: {"enum": [payload], "pattern": payload}}}
    body = {"content": {"application/json": {"schema": schema, "example": {payload: payload}}}}
    said = {"operationId": "x", "summary": payload, "security": [{"user": [payload]}]}
    document = Document({"paths": {payload: {"post": {**said, "requestBody": body}}}})
    describe.operations(payload, document, as_json=False)
    describe.operation(payload, document, document.operations["x"])
    describe.services({payload: payload}, {payload: payload}, as_json=False)
    ps.show([{"name": payload, "state": payload, "cause": payload, "pid": payload}])
    assert not FOREIGN.search(shown(capsys))


@pytest.mark.parametrize("payload", PAYLOADS[::5], ids=lambda text: ascii(text[:20]))
def test_what_is_typed_is_clean_when_it_is_answered(mesh, payload):
    if "\0" in payload:
        pytest.skip("no argument can hold a NUL")
    for args in (
        [payload],
        [f"--{payload}"],
        ["ps", payload],
        ["stop", payload],
        ["logs", payload],
        ["logs", "--search", payload],
        ["logs", "--since", payload],
        ["logs", "--level", payload],
        ["kill", "-s", payload, "order"],
        ["call", payload, payload],
        ["-p", payload, "ps"],
        ["-f", payload[:100], "ps"],
    ):
        done = mesh(*args)
        assert not FOREIGN.search(done.out + done.err), args
        assert "internal" not in done.err, args


def write_logs(here, payload):
    (here / "data" / "logs").mkdir(parents=True, exist_ok=True)
    raw = payload.encode("utf-8", "surrogatepass")
    line = json.dumps(
        {"time": "2026-01-01T00:00:00Z", "message": payload, "level": payload, payload: payload}
    )
    (here / "data" / "logs" / "order.log").write_bytes(raw + b"\n" + line.encode() + b"\n")


@pytest.mark.parametrize("payload", PAYLOADS[::3], ids=lambda text: ascii(text[:20]))
def test_logs_are_clean(mesh, here, payload):
    write_logs(here, payload)
    for args in (["logs"], ["logs", "-t"], ["logs", "--json"], ["--color", "always", "logs"]):
        done = mesh(*args)
        assert done.code == 0
        assert not FOREIGN.search(OWN_SEQUENCE.sub("", done.out + done.err))


@pytest.mark.parametrize("payload", PAYLOADS[::3], ids=lambda text: ascii(text[:20]))
def test_config_is_clean(mesh, here, payload):
    value = json.dumps(payload.replace("$", "$$"))
    text = f"services: {{a: {{command: x, environment: {{X: {value}}}, seed: {{x: {value}}}}}}}"
    (here / "mesh.yaml").write_text(text)
    for args in (["config"], ["config", "--json"]):
        done = mesh(*args)
        assert not FOREIGN.search(done.out + done.err)
        assert "internal" not in done.err


@pytest.mark.e2e
def test_on_a_terminal_only_our_own_sequences_arrive(here):
    """Byte for byte, on a real pseudo-terminal."""
    write_logs(here, "".join(payload for payload in PAYLOADS if len(payload) < 100))
    leader, follower = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color"}
    env.pop("NO_COLOR")
    command = [sys.executable, "-m", "mesh", "logs"]
    with subprocess.Popen(command, cwd=here, stdout=follower, stderr=follower, env=env) as process:
        os.close(follower)
        raw = b""
        while True:
            try:
                piece = os.read(leader, 65536)
            except OSError:  # the other side has closed
                break
            if not piece:
                break
            raw += piece
    os.close(leader)
    assert process.returncode == 0
    text = raw.decode().replace("\r\n", "\n")
    assert OWN_SEQUENCE.search(text)
    assert not FOREIGN.search(OWN_SEQUENCE.sub("", text))


def test_no_colour_is_used_off_a_terminal_or_when_it_is_not_wanted(mesh, here, monkeypatch):
    write_logs(here, "hello")
    assert "\x1b" not in mesh("logs").out
    assert "\x1b" in mesh("--color", "always", "logs").out
    assert "\x1b" not in mesh("--color", "never", "logs").out


@pytest.mark.e2e
def test_a_terminal_that_is_not_utf8_gets_escapes_instead_of_a_failure(here):
    write_logs(here, "naïve 日本")
    env = {**os.environ, "PYTHONIOENCODING": "ascii:strict", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "mesh", "logs"], cwd=here, env=env, capture_output=True, check=True
    )
    assert b"na\\xefve \\u65e5\\u672c" in done.stdout


@pytest.mark.e2e
def test_a_reader_that_leaves_is_no_failure(here):
    (here / "data" / "logs").mkdir(parents=True)
    (here / "data" / "logs" / "order.log").write_text("line\n" * 100_000)
    cut = subprocess.run(
        f"({sys.executable} -m mesh logs; echo exit $? >&2) | head -n 1",
        cwd=here, shell=True, capture_output=True, check=True, text=True,
    )  # fmt: skip
    assert (cut.stdout, cut.stderr) == ("order   | line\n", "exit 0\n")


def test_cloud_events_carry_hostile_text_as_json(capsys):
    event = _event(body=json.dumps({"x": "".join(PAYLOADS[:50])}).encode())
    output.json_line(cloud_event(event))
    assert capsys.readouterr().out.isascii()


def _event(body: bytes):
    from mesh.buses.contract import NO_HASH, Event

    return Event("product", 1, 1, 1, NO_HASH, NO_HASH, bytes(16), "t", "k", 0, b"{}", body)


def test_only_output_prints():
    """No verb has a way to the terminal of its own."""
    offenders = []
    for file in [*COMMANDS.glob("*.py"), COMMANDS.parent / "cli.py"]:
        if file.name == "output.py":
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            name = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if name in {"print", "click.echo", "click.secho", "click.style", "click.confirm"} or (
                re.search(r"(stdout|stderr)(\.buffer)?\.write", name)
            ):
                offenders.append(f"{file.name}:{node.lineno} {name}")
    assert offenders == []


def test_columns_align_and_only_a_terminal_cuts_them(capsys):
    output.table(["NAME", "WHY"], [["a", "x" * 300], ["日本", "-"]])
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["NAME  WHY", f"a     {'x' * 300}", "日本  -"]


LINES = [
    [
        "  ",
        ("✓ ok     ", "good"),
        "every event of product is heard",
        ("  all 3,877 there", "faint"),
    ],
    [
        ("latency     ", "faint"),
        "p50 4.9  p90 69  p99 1,451  p99.9 1,623  max 3,012 ms  from when sent",
    ],
    ["a" * 50, ("  b", "bad"), "c ", "d"],
    ["    ", "e" * 30],
    [],
]


@pytest.mark.parametrize("width", [20, 40, 60, 80])
@pytest.mark.parametrize("line", LINES)
def test_folded_line_loses_no_word_and_no_style_and_fits_where_its_words_do(line, width):
    def words(parts):
        return [
            (char, None if isinstance(part, str) else part[1])
            for part in parts
            for char in (part if isinstance(part, str) else part[0])
            if char != " "
        ]

    pieces = plain.folded(line, width)
    assert words([part for piece in pieces for part in piece]) == words(line)
    for piece in pieces:
        shown = "".join(part if isinstance(part, str) else part[0] for part in piece)
        assert plain.cells(shown) <= width or len(shown.split()) == 1


def test_folded_line_goes_on_below_its_second_column_and_keeps_pairs_together():
    first, second = plain.folded(["latency     p50 4.9  p90 69  p99 1,451"], 30)
    assert first == ["latency", "     p50", " 4.9", "  p90", " 69"]
    assert second == [" " * 12 + "p99", " 1,451"]
