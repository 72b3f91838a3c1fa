"""The shop as a user without privileges runs it: everything works, and nobody else gets in."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest

from tests.e2e.test_walls import needs_landlock, tried, write_intruding
from tests.support import nobody
from tests.support.nobody import STRANGER, UID, NobodysMesh, as_user

ASKED = b'{"id":1,"method":"status","params":{}}\n'


@pytest.fixture
def shop():
    """With an intruder as order."""
    if why := nobody.impossible():
        pytest.skip(why)
    with nobody.home() as folder:
        write_intruding(folder, "required")
        nobody.give(folder)
        running = NobodysMesh(folder, environment={"HOME": str(folder)})
        running.run("up", "-d")
        try:
            yield running
        finally:
            running.run("down")


@needs_landlock
def test_shop_of_a_normal_user_works_and_is_his_alone(shop: NobodysMesh):
    rows = shop.services()
    assert {row["state"] for row in rows.values()} == {"ready"}
    assert {row["sandbox"] for row in rows.values()} == {"landlock"}
    assert shop.json("call", "product", "list")["status"] == 200
    assert "fail" not in shop.run("doctor").stdout

    control = str(shop.runtime_directory() / "control.sock")
    assert as_user(UID, lambda: _ask(control)) == "done"
    assert as_user(STRANGER, lambda: _ask(control)) == "PermissionError"
    with pytest.raises((ConnectionError, PermissionError)):
        _ask(control)  # by root, whom no mode keeps out
    data = shop.directory / "data"
    assert as_user(STRANGER, lambda: [*data.iterdir()]) == "PermissionError"
    runtime = shop.runtime_directory()
    for path in (data, *data.rglob("*"), runtime, *runtime.rglob("*")):
        seen = path.lstat()
        assert (seen.st_uid, stat.S_IMODE(seen.st_mode) & 0o077) == (UID, 0), path

    for name, row in rows.items():
        for secret in ("environ", "mem", "maps"):
            file = Path(f"/proc/{row['pid']}/{secret}")
            assert as_user(UID, lambda file=file: file.open("rb").read(1)) == "PermissionError", (
                name,
                secret,
            )

    forbidden, allowed = tried(shop)
    assert {what: how for what, how in forbidden.items() if how == "done"} == {}
    assert {what: how for what, how in allowed.items() if how != "done"} == {}


def _ask(control: str) -> None:
    with socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(5.0)
        caller.connect(control)
        caller.sendall(ASKED)
        if b'"error"' in caller.recv(4096):
            raise PermissionError
