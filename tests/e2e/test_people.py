"""People in the running shop: every example, erasure to the last byte, tokens that end at once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.identity import attack
from tests.support.running import LAMP, PASSWORD, eventually

if TYPE_CHECKING:
    from tests.support.machine import Machine
    from tests.support.running import RunningMesh

CANARY = "canary-5d1e77"
"""Nothing else in the shop reads like this."""

ALICE = "usr_00000000-0000-7000-8000-000000000001"
NORA = "usr_00000000-0000-7000-8000-000000000006"
REVOKED_WITHIN_S = 1.0
REVOKED_KEY_WITHIN_S = 5.0
ERASED_WITHIN_S = 60.0


def holding(mesh: RunningMesh, needle: str) -> list[str]:
    """Every file of the mesh with these bytes in it, but for backups."""
    return [
        str(path.relative_to(mesh.directory))
        for path in (mesh.directory / "data").rglob("*")
        if path.is_file() and needle.encode() in path.read_bytes()
    ]


def registered(mesh: RunningMesh, name: str = CANARY) -> tuple[str, str]:
    """The id of a new customer full of canaries, and an access token."""
    request = {
        "email": f"{name}@shop.example",
        "password": PASSWORD,
        "display_name": f"Carol {CANARY}",
    }
    made = mesh.ask(
        "user", "POST", "/users", request, headers={"Idempotency-Key": f"k-{len(name)}"}
    )
    assert made.status == 201, made
    opened = mesh.ask(
        "user", "POST", "/sessions", {"email": request["email"], "password": PASSWORD}
    )
    return str(made.body["id"]), str(opened.body["access_token"])


def taken(mesh: RunningMesh, token: str) -> list[bool]:
    """Whether user and order take this token."""
    return [
        mesh.ask(service, "GET", path, token=token).status == 200
        for service, path in (("user", "/users/me"), ("order", "/orders"))
    ]


def ended_s(mesh: RunningMesh, token: str) -> float:
    """When nobody took this token any more, on the monotonic clock."""
    eventually(lambda: not any(taken(mesh, token)), within_s=60.0)
    return time.monotonic()


def test_erased_person_leaves_no_byte_and_does_not_come_back_with_a_backup(
    mesh: RunningMesh, machine: Machine
):
    user_id, token = registered(mesh)
    where = {
        "name": f"Carol {CANARY}",
        "line1": f"1 {CANARY} Street",
        "city": "Hamburg",
        "postcode": "20457",
        "country": "DE",
    }
    kept = mesh.ask("user", "POST", "/users/me/addresses", where, token=token)
    assert kept.status == 201
    body = {"lines": [{"product_id": LAMP, "quantity": 1}], "ship_to": where}
    ordered = mesh.ask(
        "order", "POST", "/orders", body, token=token, headers={"Idempotency-Key": "o"}
    )
    assert ordered.status == 201, ordered
    mesh.idle()
    assert {name.split("/")[1] for name in holding(mesh, CANARY)} == {"user", "auth", "order"}
    mesh.run("backup", "before")

    begun_s = time.monotonic()
    erased = mesh.ask("user", "DELETE", f"/users/{user_id}", token=mesh.login("ada"))
    assert erased.status == 204
    assert machine.since_s(begun_s, ended_s(mesh, token)) < REVOKED_WITHIN_S
    backups = len(holding(mesh, CANARY)) and "backups"
    eventually(
        lambda: all(backups in name for name in holding(mesh, CANARY)), within_s=ERASED_WITHIN_S
    )

    mesh.run("restore", "before")
    mesh.run("wait")
    mesh.idle()
    assert mesh.ask("user", "GET", f"/users/{user_id}", token=mesh.login("ada")).status == 404
    eventually(
        lambda: all(
            backups in name or "replaced-" in name or "/restoring/" in name
            for name in holding(mesh, CANARY)
        ),
        within_s=ERASED_WITHIN_S,
    )
    mesh.run("verify")


def test_who_asks_again_to_be_erased_learns_that_she_is_and_may_ask_nothing_else(
    mesh: RunningMesh,
):
    user_id, token = registered(mesh)
    _, left = registered(mesh, "left")
    itself, nora = f"/users/{user_id}", f"/users/{NORA}"
    assert mesh.ask("user", "DELETE", "/sessions/current", token=left).status == 204
    assert mesh.ask("user", "DELETE", itself, token=token).status == 204
    assert mesh.ask("user", "DELETE", itself, token=token).status == 204, "before it is revoked"
    for bearer in (token, left):
        ended_s(mesh, bearer)
    for _ in range(2):
        assert mesh.ask("user", "DELETE", itself, token=token).status == 204
        for method, path in (("GET", itself), ("GET", "/users/me"), ("DELETE", nora)):
            assert mesh.ask("user", method, path, token=token).body["code"] == "session-revoked"
        for path in (itself, nora):
            refused = mesh.ask("user", "DELETE", path, token=left)
            assert (refused.status, refused.body["code"]) == (401, "session-revoked")
        mesh.kill("user")
        mesh.run("wait")
    assert mesh.ask("user", "GET", nora, token=mesh.login("ada")).status == 200


def test_examples_of_what_changes_people_are_taken_by_the_command_line(mesh: RunningMesh):
    """Each alone works on a new shop; in this order also one after the other."""
    for name in ("update-me", "remove-address", "grant", "suspend", "reinstate", "erase", "logout"):
        called = mesh.json("call", "user", name)
        assert called["status"] < 300, called
    assert mesh.json("explain", "user", ALICE)["body"]["possible"]
    known = mesh.json("explain", "auth", ALICE)["body"]
    assert (known["credentials"], known["waits_for"]) == (True, None)
    gone = mesh.run("call", "user", "erase", exit_code=2)
    assert "there is no user `nora`" in gone.stderr


def test_identities_hold_while_keys_turn_and_tokens_are_shown_at_once(
    mesh: RunningMesh, machine: Machine
):
    answers = attack.refreshes(mesh, 50)
    assert answers[200] <= 1
    assert set(answers) == {200, 401}
    assert set(attack.endings(mesh, 1)) == {
        "logout",
        "change_password",
        "grant",
        "suspend",
        "erase",
    }
    begun_s = time.monotonic()
    turned = attack.rotations(mesh, 3, 0.5)
    still_s = time.monotonic() - begun_s - machine.since_s(begun_s)
    assert set(turned.statuses) == {200}
    assert turned.keys == 4
    assert turned.revoked_s - still_s < REVOKED_KEY_WITHIN_S
    guessed = attack.guesses(mesh, 100, 3.0)
    assert guessed.hashed <= 30
    assert set(guessed.statuses) == {401, 429}
    assert set(guessed.others) == {201}
