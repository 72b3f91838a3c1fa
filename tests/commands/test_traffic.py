"""How `mesh explain` words what a service tells of its asking and being asked."""

from __future__ import annotations

from mesh.commands import traffic

CALL = {
    "service": "product",
    "route": "PUT /holds/{order_id}",
    "timeout_ms": 1500,
    "retries_max": 2,
    "idempotent": True,
    "connections_max": 32,
    "breaker": "closed",
}
SEEN = {
    "calls": 5,
    "errors": 4,
    "attempts": 6,
    "retries": 2,
    "held_back": 1,
    "in_flight": 0,
    "state": "half-open",
}


def worded(found: object) -> list[str]:
    return [
        title + ": " + "".join(part if isinstance(part, str) else part[0] for part in parts)
        for title, parts in traffic.rows(found)
    ]


def test_nothing_is_said_of_a_service_that_tells_nothing():
    assert worded(None) == worded({}) == []


def test_each_call_is_told_with_its_policy_and_each_peer_with_what_became_of_it():
    asks = [CALL, CALL | {"breaker": "half-open", "idempotent": False}]
    assert worded({"asks": asks, "peers": {"product": SEEN}}) == [
        (
            "asks: product PUT /holds/{order_id}: within 1500 ms, 2 retries, 32 connections;"
            " breaker closed"
        ),
        (
            "asks: product PUT /holds/{order_id}: within 1500 ms, 2 retries with a key,"
            " 32 connections; breaker half-open"
        ),
        "asked: product: 5 calls, 6 attempts, 2 retries, 4 failed, 1 held back",
    ]


def test_deferred_work_is_told_while_it_is_held_back():
    assert worded({"deferred": {"running": 0, "held": []}}) == []
    assert worded({"deferred": {"running": 1, "held": ["decide", "wake"]}}) == [
        "later: 1 under way; held back until what they ask answers: decide, wake"
    ]


def test_who_is_let_in_is_told():
    admission = {"places": 64, "taken": 3, "waiting": 1, "admitted": 9, "shed": 2, "lag_ms": 0.1}
    assert worded({"admission": admission, "connections": {"open": 4, "max": 512}}) == [
        "lets in: 3 of 64 at work, 1 wait; 9 let in, 2 refused",
        "clients: 4 of 512 connections",
    ]
