"""The main job: up, call, order, pay, cancel, the story of the events."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from mesh.buses.zmq.protocol.timing import POLL_S
from tests.support.running import LAMP, PASSWORD, eventually

if TYPE_CHECKING:
    from tests.support.running import RunningMesh


def test_shop_is_ready_and_takes_an_order_by_the_command_line(mesh: RunningMesh):
    states = {name: row["state"] for name, row in mesh.services().items()}
    assert states == dict.fromkeys(("auth", "user", "product", "order", "bus"), "ready")

    called = mesh.json("call", "order", "create")
    assert called["schema"] == "mesh.call/1"
    assert called["status"] == 201
    order = called["body"]
    assert order["status"] == "reserved"
    assert order["lines"][0]["unit_price_minor"] == 2490
    assert order["total_minor"] == 2490 + 490

    again = mesh.json("call", "order", "get", f"id={order['id']}")
    assert again["body"] == order

    shown = mesh.run("explain", "order", order["id"]).stdout
    assert shown.startswith(f"{order['id']} is reserved: stock held\n")
    for line in (
        "  waits for   its owner, to pay until ",
        "  hold        held, version 1",
        "possible",
    ):
        assert line in shown


def test_backorder_wakes_when_stock_comes_and_events_tell_why(mesh: RunningMesh):
    product = mesh.product(on_hand=1)
    order = mesh.order([(product, 5)], key="k1", on_shortage="backorder").body
    assert order["status"] == "backordered"

    answer = mesh.restock(product, 10)
    assert answer.status == 201
    mesh.idle()
    events = mesh.lines("events", "tail", "--no-follow", "-n", "50")
    woken = next(
        event
        for event in events
        if event["type"] == "order.status_changed"
        and event["subject"] == order["id"]
        and event["data"]["new"] == "reserved"
    )
    cause = next(event for event in events if event["id"] == woken["causationid"])
    assert cause["type"] == "product.stock_changed"
    assert cause["data"]["d_on_hand"] == 10
    assert events.index(cause) < events.index(woken)
    assert cause["traceparent"].split("-")[1] == woken["traceparent"].split("-")[1]


def woken_s(mesh: RunningMesh, number: int) -> float:
    """Seconds from new stock to the order that waits for it."""
    product = mesh.product(on_hand=0, sku=f"WAITS-{number}")
    order = mesh.order([(product, 5)], key=f"w{number}").body
    token, begun_s = mesh.login("alice"), time.monotonic()
    assert mesh.restock(product, 5).status == 201
    eventually(
        lambda: (
            mesh.ask("order", "GET", f"/orders/{order['id']}", token=token).body["status"]
            == "reserved"
        ),
        within_s=60,
    )
    return time.monotonic() - begun_s


def test_backorder_wakes_at_once(mesh: RunningMesh):
    """Of a few, since the machine may be busy: without the bell of the bus none would."""
    assert any(woken_s(mesh, number) < POLL_S / 2 for number in range(5))


def test_one_that_does_not_fit_is_passed_over_and_the_oldest_is_tried_first(mesh: RunningMesh):
    product = mesh.product(on_hand=0)
    large, first, second = (
        mesh.order([(product, n)], key=f"k{n}{i}").body["id"] for i, n in enumerate((9, 2, 2))
    )
    mesh.restock(product, 3)
    mesh.idle()
    token = mesh.login("alice")

    def status(order_id: str) -> str:
        return str(mesh.ask("order", "GET", f"/orders/{order_id}", token=token).body["status"])

    assert [status(large), status(first), status(second)] == [
        "backordered",
        "reserved",
        "backordered",
    ]


def test_shortage_is_rejected_when_asked_to(mesh: RunningMesh):
    product = mesh.product(on_hand=1)
    answer = mesh.order([(product, 2)], key="k", on_shortage="reject")
    assert (answer.status, answer.body["status"], answer.body["reason"]) == (
        201,
        "rejected",
        "insufficient-stock",
    )
    dear = mesh.order([(product, 1)], key="dear", expected_total_minor=1)
    assert (dear.body["status"], dear.body["reason"]) == ("rejected", "price-changed")
    mesh.idle()
    shown = mesh.ask("product", "GET", f"/products/{product}").body
    assert (shown["on_hand"], shown["reserved"]) == (1, 0)


def test_order_is_paid_declined_and_cancelled(mesh: RunningMesh):
    product = mesh.product(on_hand=10)
    token = mesh.login("alice")

    def pay(order_id: str, with_token: str):
        return mesh.ask(
            "order",
            "POST",
            f"/orders/{order_id}/payment",
            {"payment_token": with_token},
            token=token,
        )

    paid = mesh.order([(product, 2)], key="paid").body["id"]
    assert pay(paid, "tok_visa").body["status"] == "paid"
    cancelled = mesh.ask("order", "POST", f"/orders/{paid}/cancel", {}, token=token)
    assert cancelled.body["status"] == "cancelled"
    again = mesh.ask("order", "POST", f"/orders/{paid}/cancel", {}, token=token)
    assert (again.status, again.body["code"], again.body["allowed"]) == (
        409,
        "illegal-transition",
        [],
    )

    declined = mesh.order([(product, 3)], key="declined").body["id"]
    outcomes = [pay(declined, "tok_declined").body["status"] for _ in range(3)]
    assert outcomes == ["reserved", "reserved", "cancelled"]

    mesh.idle()
    shown = mesh.ask("product", "GET", f"/products/{product}").body
    assert (shown["on_hand"], shown["reserved"]) == (10, 0)
    steps = mesh.ask("order", "GET", f"/orders/{paid}/history", token=token).body["items"]
    assert [step["new"] for step in steps] == [
        "pending",
        "reserved",
        "paying",
        "paid",
        "cancelled",
    ]
    assert [step["version"] for step in steps] == [1, 2, 3, 4, 5]


def test_nobody_else_sees_an_order(mesh: RunningMesh):
    order = mesh.order([(LAMP, 1)], key="mine").body["id"]
    for name, expected in (("bob", 404), ("sam", 200), ("alice", 200)):
        answer = mesh.ask("order", "GET", f"/orders/{order}", token=mesh.login(name))
        assert answer.status == expected, name
    assert mesh.ask("order", "GET", f"/orders/{order}").status == 401


def test_holds_are_open_to_order_alone(mesh: RunningMesh):
    path = "/holds/ord_00000000-0000-7000-8000-000000000009"
    body = {"lines": [{"product_id": LAMP, "quantity": 1}]}
    assert mesh.ask("product", "PUT", path, body).status == 401
    assert mesh.ask("product", "PUT", path, body, token=mesh.login("ada")).status == 403
    mesh.run("call", "product", "hold", "--as", "order")
    mesh.run("call", "product", "hold", "--as", "user", exit_code=1)


def test_concurrent_orders_never_oversell(mesh: RunningMesh):
    product = mesh.product(on_hand=100)
    mesh.login("alice")
    with ThreadPoolExecutor(32) as pool:
        ids = list(pool.map(lambda n: mesh.taken([(product, 1)], key=f"rush-{n}"), range(200)))
    mesh.idle()  # what a busy product was not asked for at once is decided
    placed = mesh.placed("alice")
    assert sorted(order["id"] for order in placed) == sorted(ids)
    statuses = [order["status"] for order in placed]
    assert (statuses.count("reserved"), statuses.count("backordered")) == (100, 100)
    shown = mesh.ask("product", "GET", f"/products/{product}").body
    assert (shown["on_hand"], shown["reserved"], shown["available"]) == (100, 100, 0)
    told = [
        event["data"]
        for event in mesh.lines("events", "tail", "--no-follow", "-n", "100000")
        if event["type"] == "product.stock_changed" and event["subject"] == product
    ]
    assert [row["stock_version"] for row in told] == list(range(1, 102))
    assert all(0 <= row["reserved"] <= row["on_hand"] for row in told)
    assert sum(row["d_reserved"] for row in told) == 100


def test_wrong_password_is_refused_because_auth_said_so(mesh: RunningMesh):
    def login(password: str, email: str = "alice@shop.example"):
        return mesh.ask("user", "POST", "/sessions", {"email": email, "password": password})

    wrong, unknown = login("not-the-password"), login(PASSWORD, "nobody@shop.example")
    assert (wrong.status, unknown.status) == (401, 401)
    assert wrong.body["code"] == unknown.body["code"] == "bad-credentials"
    token = login(PASSWORD).body["access_token"]

    mesh.run("stop", "auth")
    assert login(PASSWORD).status == 503
    assert mesh.ask("product", "GET", "/products").status == 200
    ordered = mesh.ask(
        "order",
        "POST",
        "/orders",
        {
            "lines": [{"product_id": LAMP, "quantity": 1}],
            "ship_to": {
                "name": "A",
                "line1": "1",
                "city": "C",
                "postcode": "1",
                "country": "DE",
            },
        },
        token=token,
        headers={"Idempotency-Key": "while-auth-is-away"},
    )
    assert (ordered.status, ordered.body["status"]) == (201, "reserved")
    mesh.run("start", "auth")
    mesh.run("wait", "auth")
    assert login(PASSWORD).status == 201


def test_registration_gives_a_customer_who_can_order(mesh: RunningMesh):
    body = {"email": "carol@shop.example", "password": "a-fine-passphrase", "display_name": "Carol"}
    made = mesh.ask("user", "POST", "/users", body)
    assert (made.status, made.body["status"]) == (201, "active")
    assert "password" not in json.dumps(made.body)
    assert mesh.ask("user", "POST", "/users", body).status == 409
    session = mesh.ask(
        "user", "POST", "/sessions", {"email": body["email"], "password": body["password"]}
    )
    answer = mesh.ask(
        "order",
        "POST",
        "/orders",
        {
            "lines": [{"product_id": LAMP, "quantity": 1}],
            "ship_to": {
                "name": "C",
                "line1": "1",
                "city": "C",
                "postcode": "1",
                "country": "DE",
            },
        },
        token=session.body["access_token"],
        headers={"Idempotency-Key": "first"},
    )
    assert (answer.status, answer.body["user_id"]) == (201, made.body["id"])


def test_same_key_gives_the_same_answer_and_another_body_is_refused(mesh: RunningMesh):
    first = mesh.order([(LAMP, 1)], key="same")
    second = mesh.order([(LAMP, 1)], key="same")
    assert second.body == first.body
    assert second.headers["Idempotent-Replayed"] == "true"
    assert mesh.order([(LAMP, 2)], key="same").status == 422
    missing = mesh.ask("order", "POST", "/orders", {}, token=mesh.login("alice"))
    assert missing.status == 400
