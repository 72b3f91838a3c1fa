"""What the shop shows to a web page, to a stranger on the network, and to whoever reads its logs."""

from __future__ import annotations

import json
import re
from pathlib import Path

FORGED = "a\nERROR forged\r\x1b[2J\u2028\u202e@shop.example"
LEAKS = re.compile(r'Traceback|sqlite|/home|/tmp|File "', re.IGNORECASE)
ASKED = 8
"""Requests of which a service might tell in its log."""

LISTENING = "0A"
LOOPBACK = {"0100007F", "00000000000000000000000001000000"}

PAGES = [
    {"Host": "evil.example"},
    {"Host": "0.0.0.0"},
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site"},
    {
        "Origin": "http://evil.example",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    },
]
"""What a page of another site has a browser send, by rebinding a name or plainly."""


def _family(pid: int) -> set[int]:
    """A process and everything below it."""
    found = {pid}
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text("ascii").split():
            found |= _family(int(child))
    return found


def _listeners(pid: int) -> list[str]:
    """The addresses, as the kernel writes them, at which a process and its like can be reached."""
    inodes = set()
    for each in _family(pid):
        for link in Path(f"/proc/{each}/fd").iterdir():
            target = str(link.readlink())
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    found = []
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path("/proc/net", table).read_text("ascii").splitlines()[1:]:
            row = line.split()
            reached = row[3] == LISTENING if table.startswith("tcp") else True
            if reached and row[9] in inodes:
                found.append(row[1].partition(":")[0])
    return found


def test_nobody_is_let_in_but_programs_of_this_machine(mesh):
    listeners = _listeners(mesh.supervisor())
    services = mesh.services()
    assert len(listeners) >= len(services) == 5
    assert set(listeners) <= LOOPBACK

    for service in services:
        for headers in PAGES:
            for method, path in (("GET", "/livez"), ("GET", "/nothing"), ("POST", "/orders")):
                answer = mesh.ask(service, method, path, headers=headers)
                assert answer.status in {403, 421}, (service, method, path, headers, answer)
                assert "Access-Control-Allow-Origin" not in answer.headers
    asked = "email=alice%40shop.example&password=demo-shop-pass"
    for kind in ("application/x-www-form-urlencoded", "text/plain", "multipart/form-data"):
        sent = {"Content-Type": kind}
        answer = mesh.ask("user", "POST", "/sessions", asked.encode(), headers=sent)
        assert answer.status == 400, answer

    before = _lines(mesh.directory)
    for service in services:
        for path in ("/nothing", "/%2e%2e/etc/passwd", "/orders/'; DROP TABLE orders", "/livez/x"):
            answer = mesh.ask(service, "GET", path.replace(" ", "%20"))
            assert answer.status in {400, 401, 404}, answer
            assert len(answer.body["trace_id"]) == 32
            assert not LEAKS.search(json.dumps(answer.body)), answer
    who = {"email": FORGED, "password": "a wrong password"}
    assert mesh.ask("user", "POST", "/sessions", who).status in {400, 401}
    assert mesh.ask("user", "POST", "/sessions", {**who, "email": "no@shop.example"}).status == 401

    for name, lines in _lines(mesh.directory).items():
        assert len(lines) <= len(before[name]) + ASKED, (name, lines)
        for line in lines:
            assert isinstance(json.loads(line), dict), (name, line)
            assert line.isprintable(), (name, line)


def _lines(directory: Path) -> dict[str, list[str]]:
    """Every log, cut at nothing but line feeds."""
    logs = (directory / "data" / "logs").glob("*.log")
    return {each.name: each.read_bytes().decode().split("\n")[:-1] for each in logs}
