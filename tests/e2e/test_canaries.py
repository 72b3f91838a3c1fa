"""Planted secrets: none is found where it does not belong, whatever fails meanwhile."""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from tests.support.running import ADDRESS, LAMP

if TYPE_CHECKING:
    from tests.support.running import RunningMesh

CANARY = "canary-{}-of-the-mine-{}"
STORES = {".db", ".db-wal", ".db-shm"}
"""A service's own database keeps what it must: hashes, keys. Its mode is looked at all the same."""


def planted(mesh: RunningMesh) -> dict[str, str]:
    """The secrets by name: typed, sent or given out, in requests that succeed and that fail."""
    found = {name: CANARY.format(name, os.urandom(4).hex()) for name in (
        "password", "new-password", "wrong-password", "short-lived-password", "password-of-nobody",
        "unknown-field", "payment-token", "bearer", "cookie", "idempotency-key", "broken-json",
    )}  # fmt: skip
    email, person = f"canary-{os.urandom(4).hex()}@shop.example", {"display_name": "Canary"}

    def ask(*args: object, **how: object) -> dict:
        body = mesh.ask(*args, **how).body
        return body if isinstance(body, dict) else {}

    registered = {"email": email, "password": found["password"], **person}
    ask("user", "POST", "/users", registered)
    ask("user", "POST", "/users", {**registered, "password": found["new-password"]})
    ask("user", "POST", "/users", {**registered, found["unknown-field"]: 1})
    ask("user", "POST", "/users", b'{"password": "' + found["broken-json"].encode() + b'", ]')
    for login, word in ((email, "wrong-password"), ("nobody@shop.example", "password-of-nobody")):
        ask("user", "POST", "/sessions", {"email": login, "password": found[word]})
    session = ask("user", "POST", "/sessions", {"email": email, "password": found["password"]})
    found["access-token"] = session["access_token"]
    found["refresh-token"] = session["refresh_token"]
    changed = {"password": found["password"], "new_password": found["new-password"]}
    ask("user", "PUT", "/users/me/password", changed, token=session["access_token"])
    again = ask("user", "POST", "/sessions", {"email": email, "password": found["new-password"]})
    found |= {f"second-{name}": again[f"{name}_token"] for name in ("access", "refresh")}
    key = {"Idempotency-Key": found["idempotency-key"]}
    order = {"lines": [{"product_id": LAMP, "quantity": 1}], "ship_to": ADDRESS}
    token = mesh.login("alice")
    made = ask("order", "POST", "/orders", order, token=token, headers=key)
    ask("order", "POST", "/orders", {**order, "lines": []}, token=token, headers=key)
    paid = {"payment_token": found["payment-token"]}
    ask("order", "POST", f"/orders/{made['id']}/payment", paid, token=token, headers=key)
    for header in ("Authorization", "Cookie"):
        word = found["bearer" if header == "Authorization" else "cookie"]
        ask("order", "GET", "/orders", headers={header: f"Bearer {word}"})
    found["alices-token"] = token
    for name in ("auth", "order"):
        identity = json.loads((mesh.directory / "data/run/identity" / f"{name}.json").read_text())
        found[f"private-key-of-{name}"] = identity["private"]
    for name in ("auth", "order", "user"):
        found[f"signature-{name}"] = _minted(mesh, name).rpartition(".")[2]
    return found


def _minted(mesh: RunningMesh, audience: str) -> str:
    """A token of the operator's, as the command line asks for one."""
    from mesh.orchestrator.remote import Remote

    return Remote.find(mesh.directory / "data").token("operator", audience)


def spellings(secrets: dict[str, str]) -> dict[str, bytes]:
    """As they are, and in base64."""
    plain = {name: text.encode() for name, text in secrets.items()}
    coded = {f"{name} in base64": base64.b64encode(raw)[:-4] for name, raw in plain.items()}
    return plain | coded


def hits(secrets: dict[str, bytes], where: str, raw: bytes) -> list[str]:
    return [f"{name} in {where}" for name, word in secrets.items() if word in raw]


def test_no_secret_is_found_where_it_does_not_belong(mesh: RunningMesh):
    secrets = planted(mesh)
    assert len(secrets) >= 20
    mesh.run("chaos", "error", "auth", "--for", "2")
    mesh.run("call", "order", "create", "--as", "bob", exit_code=None)
    mesh.kill("order")
    mesh.kill("auth")
    mesh.run("--debug", "call", "user", "login", f"email={secrets['password']}", exit_code=None)
    mesh.run("wait")
    mesh.kill("user", 6)
    mesh.run("wait", "user")
    secrets |= {f"later-{name}": text for name, text in planted(mesh).items()}
    mesh.run("backup", "monday")
    mesh.idle()

    words, found = spellings(secrets), []
    for process in _processes(mesh):
        for name in ("cmdline", "environ"):
            raw = Path(f"/proc/{process.pid}/{name}").read_bytes()
            found += hits(words, f"{name} of {process.name()}", raw)
    for args in (
        ("ps", "--json"), ("logs", "-n", "all"), ("logs", "-n", "all", "--json"), ("ls", "--json"),
        ("events", "tail", "--no-follow", "-n", "100000", "--json"), ("trace", "--json"),
        ("explain", "auth", "--json"), ("explain", "user", "--json"), ("explain", "order", "--json"),
        ("config", "--json"), ("verify", "--json"), ("doctor", "--json"), ("backup", "--json"),
        ("events", "parked", "ls", "--json"), ("schema", "openapi", "--json"), ("graph", "--json"),
    ):  # fmt: skip
        done = mesh.run(*args, exit_code=None)
        found += hits(words, " ".join(args), (done.stdout + done.stderr).encode())
    told = mesh.run("events", "tail", "--no-follow", "-n", "100000", "--json").stdout
    assert hits({"no secret": LAMP.encode()}, "events", told.encode()), "this looks where words are"
    wide = []
    for path in [mesh.directory / "data", *(mesh.directory / "data").rglob("*")]:
        mode = path.lstat().st_mode
        if stat.S_IMODE(mode) & 0o077 and not stat.S_ISLNK(mode):
            wide.append(f"{path} {oct(mode)}")
        inside = path.relative_to(mesh.directory / "data")
        kept = (path.suffix in STORES and inside.parts[0] != "bus") or inside.parts[:2] == (
            "run",
            "identity",
        )
        if stat.S_ISREG(mode) and not kept:
            found += hits(words, str(inside), path.read_bytes())
    assert found == []
    assert wide == []


def _processes(mesh: RunningMesh) -> list[psutil.Process]:
    supervisor = psutil.Process(mesh.supervisor())
    found = [supervisor, *supervisor.children(recursive=True)]
    assert len(found) >= 7
    return found
