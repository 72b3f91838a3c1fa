"""Texts that would drive a terminal, stored wherever a mesh stores any, through every verb that prints."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from mesh.cli import cli
from tests.commands.payloads import PAYLOADS
from tests.commands.test_output import FOREIGN, OWN_SEQUENCE
from tests.support.printing import PRINTING
from tests.support.running import ADDRESS, LAMP, SHOP, RunningMesh, eventually

HERE = Path(__file__).parent
WHOLE = [text for text in PAYLOADS if text.strip() and not re.search("[\0\ud800-\udfff]", text)]
"""What JSON over HTTP and a variable can hold."""

OWN = re.compile(OWN_SEQUENCE.pattern + r"|\x1b\[(?:K|J|[0-9]F)")
"""Colours, and how progress is written over itself."""

AT_ONCE = 2
"""Lines at a time: most of one is an interpreter's start."""

CODES = {0, 1, 2, 3, 4, 5, 7}
_READ_BYTES = 65536


def furnished(directory: Path) -> RunningMesh:
    """The shop with an echo and a mumbler, and every payload stored; it runs."""
    for name in ("echoing.py", "mumbler.py"):
        shutil.copy(HERE / "echo" / name, directory)
    (directory / "payloads.json").write_text(json.dumps(PAYLOADS), "ascii")
    (directory / "event.json").write_text(json.dumps({"values": [text[:200] for text in WHOLE]}))
    config = yaml.safe_load(SHOP.read_text("utf-8"))
    config["services"]["echo"] = {"module": "echoing", "calls": ["product"]}
    config["services"]["mumbler"] = {
        "command": [sys.executable, "mumbler.py"],
        "healthcheck": {"disable": True},
        "restart": "no",
        "environment": {f"SAID_{n}": text[:200].replace("$", "$$") for n, text in enumerate(WHOLE)},
    }
    (directory / "mesh.yaml").write_text(yaml.safe_dump(config), "utf-8")
    running = RunningMesh(directory)
    running.run("up", "-d", exit_code=None)
    return running


def stored(running: RunningMesh) -> int:
    """Names, addresses, reasons and events; how many texts were taken."""
    sam, alice, taken = running.login("sam"), running.login("alice"), 0
    for n, text in enumerate(WHOLE):
        product = {
            "sku": f"P-{n}",
            "name": text[:120],
            "description": text[:2000],
            "price_minor": 1,
            "currency": "EUR",
            "on_hand": 1,
        }
        taken += running.ask("product", "POST", "/products", product, token=sam).status == 201
    for text in WHOLE[::10]:
        order = {
            "lines": [{"product_id": LAMP, "quantity": 1}],
            "ship_to": {**ADDRESS, "name": text[:120], "line1": text[:120]},
        }
        running.ask(
            "order",
            "POST",
            "/orders",
            order,
            token=alice,
            headers={"Idempotency-Key": f"k-{text[:9]!a}"},
        )
        running.ask("user", "PATCH", "/users/me", {"display_name": text[:100]}, token=alice)
        change = {"delta": 1, "reason": text[:64]}
        running.ask("product", "POST", f"/products/{LAMP}/stock-adjustments", change, token=sam)
    running.restock(LAMP, 77)
    running.run("events", "publish", "demo.told", "-d", "@event.json")
    return taken


def facts(running: RunningMesh) -> dict[str, str]:
    """What command lines are filled in with."""
    eventually(lambda: running.json("events", "parked", "ls")["parked"], within_s=60)
    parked = running.json("events", "parked", "ls")["parked"][0]
    order = running.placed("alice")[0]
    trace = running.json("trace")["traces"][0]
    return {
        "order": str(order["id"]),
        "parked": str(parked["id"]),
        "trace": trace["trace_id"],
    }


def printed(running: RunningMesh, args: list[str], *, on_terminal: bool) -> tuple[int, str]:
    """The exit code, and everything that a reader of its output gets."""
    ours, theirs = pty.openpty() if on_terminal else os.pipe()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MESH_", "NO_COLOR"))}
    process = subprocess.Popen(
        [sys.executable, "-m", "mesh", *args],
        cwd=running.directory,
        env={**environment, "MESH_FREE_PORTS": "1", "TERM": "xterm", "COLUMNS": "120"},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    said = b""
    while True:
        try:
            piece = os.read(ours, _READ_BYTES)
        except OSError:  # the terminal's last user is gone
            break
        if not piece:
            break
        said += piece
    os.close(ours)
    return process.wait(60), said.decode("utf-8", "surrogateescape")


def offers_json(verb: str) -> bool:
    return "--json" in CliRunner().invoke(cli, [*verb.split(), "--help"]).stdout


def typed(known: dict[str, str]) -> list[tuple[str, list[str]]]:
    """Every line to try, and where its output goes."""
    found = []
    for verb, lines in PRINTING.items():
        for n, line in enumerate(lines if isinstance(lines, list) else ()):
            args = line.format(n=n, **known).split()
            found += [("pipe", args), ("terminal", args)]
            if n == 0 and offers_json(verb):
                found.append(("pipe", [*args, "--json"]))
    return found


def said_wrongly(running: RunningMesh, way: str, args: list[str]) -> tuple[object, ...]:
    """What is wrong with the output of one line; nothing if it is well."""
    code, text = printed(running, args, on_terminal=way == "terminal")
    shown = OWN.sub("", text.replace("\r\n", "\n")) if way == "terminal" else text
    found = FOREIGN.search(shown) or re.search("[\ud800-\udfff]", shown)
    if found:
        return (way, args, ascii(shown[max(0, found.start() - 60) :][:120]))
    if code not in CODES or "[internal]" in text:
        return (way, args, code, text[-500:])
    return ()


@pytest.mark.timeout(900)  # two hundred interpreters are started
def test_nothing_stored_reaches_a_terminal_by_any_verb(tmp_path: Path):
    running = furnished(tmp_path)
    try:
        assert stored(running) >= 200
        lines = typed(facts(running))
        with ThreadPoolExecutor(AT_ONCE) as pool:
            wrong = [*pool.map(lambda line: said_wrongly(running, *line), lines)]
    finally:
        running.down()
    assert [each for each in wrong if each] == []
    assert len(lines) >= 100
