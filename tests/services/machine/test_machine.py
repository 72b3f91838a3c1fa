"""Rules that Hypothesis puts together; after each the shop rests, and is what the reference says.

`MESH_MACHINE_EXAMPLES` sizes it; beyond CI's size the stories are new each time.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from msgspec import Struct

from mesh.errors import Conflict, Forbidden, MeshError, Unauthenticated
from mesh.framework import Caller
from mesh.services.order import payments
from mesh.services.product import holding
from tests.services.machine.reference import KEPT, Order, Product, Reference
from tests.services.machine.shop import LOST, STAFF, Death, Shop
from tests.services.order.support import ADDRESS

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(600)]

EXAMPLES = int(os.environ.get("MESH_MACHINE_EXAMPLES", "20"))
CI_EXAMPLES = 20
STEPS = 20
PRODUCTS = [f"prd_00000000-0000-7000-8000-00000000000{n}" for n in (1, 2)]
PASSWORD = "demo-shop-pass"
PEOPLE_MAX = 3
"""Of those who register: each costs two hashes of 30 ms."""

HOLD_S = 16 * 60

deaths = st.one_of(
    st.none(),
    st.builds(
        Death,
        service=st.sampled_from(["order", "order", "product"]),
        at=st.integers(1, 8),
        again=st.booleans(),
    ),
)
at_work = st.sampled_from([0, 0, 0, 1, 2, 3, 4, 6])
chance = st.integers(0, 10**6)


LEGAL = {
    "backordered": ["cancel"],
    "reserved": ["pay", "pay", "pay in vain", "cancel"],
    "paid": ["ship", "ship", "cancel"],
    "shipped": ["deliver", "return"],
    "delivered": ["return"],
}
"""What a caller may ask for at rest; what stands there twice is asked for twice as often."""

VERBS = ["pay", "pay in vain", "cancel", "ship", "deliver", "return"]


def _pick(choice: list[str], pick: int) -> str:
    return choice[pick % len(choice)]


class Row(Struct):
    id: str
    status: str


class StockRow(Struct):
    id: str
    on_hand: int
    reserved: int


class ShopMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.shop = Shop()
        self.model = Reference()
        self.people: dict[str, str] = {}
        """Who may buy: the id, and the e-mail."""
        self.gone: dict[str, str] = {}
        self.n = 0

    def teardown(self) -> None:
        self.shop.close()

    @initialize(stock=st.lists(st.integers(1, 5), min_size=2, max_size=2))
    def open(self, stock):
        rows = [
            {"id": i, "sku": f"S-{n}", "name": f"P {n}", "price_minor": 900, "currency": "EUR", "on_hand": n}
            for i, n in zip(PRODUCTS, stock, strict=True)
        ]  # fmt: skip
        for n, row in enumerate(rows):
            row["sku"] = f"SKU-{n}"
            self.model.products[row["id"]] = Product(row["price_minor"], row["on_hand"])
        self.shop.run(self.shop.rooms["product"].plant({"products": rows}))
        self.shop.run(self.shop.rest())
        self._register(None)

    # --- what happens ------------------------------------------------------------------------

    def ask(self, service, name, body, *, death=None, after=0, **who):
        """Ask, and let the shop come to rest."""
        self.n += 1
        answer = self.shop.run(
            self.shop.ask(service, name, body, key=f"k{self.n}", death=death, **who)
        )
        self.shop.run(self.shop.rest(after))
        return answer

    def _register(self, death) -> None:
        email = f"p{len(self.people) + len(self.gone)}-{self.n}@shop.example"
        body = {"email": email, "password": PASSWORD, "display_name": "Somebody"}
        answer = self.ask("user", "register", body, death=death)
        if answer is LOST or isinstance(answer, MeshError):
            answer = self.ask("user", "register", body)
        if isinstance(answer, Conflict):  # all was done before the process died
            assert answer.code == "email-taken"
        known = self.ask("user", "login", {"email": email, "password": PASSWORD})
        self.people[known.user_id] = email

    @precondition(lambda self: len(self.people) + len(self.gone) < PEOPLE_MAX)
    @rule(service=st.sampled_from(["user", "auth"]), at=st.integers(1, 6), again=st.booleans())
    def register(self, service, at, again):
        self._register(Death(service, at, again))

    @rule(
        pick=chance,
        lines=st.dictionaries(st.sampled_from(PRODUCTS), st.integers(1, 3), min_size=1),
        backorder=st.sampled_from([True, True, False]),
        expected=st.sampled_from([None, None, None, 1500, 100_000]),
        death=deaths,
        after=at_work,
    )
    def place(self, pick, lines, backorder, expected, death, after):
        owner = self._somebody(pick)
        body = {
            "lines": [{"product_id": name, "quantity": n} for name, n in sorted(lines.items())],
            "ship_to": ADDRESS,
            "on_shortage": "backorder" if backorder else "reject",
            **({"expected_total_minor": expected} if expected is not None else {}),
        }
        caller = Caller("user", owner, ("customer",))
        answer = self.ask("order", "create", body, caller=caller, death=death, after=after)
        if owner in self.gone:
            assert answer is LOST or isinstance(answer, Forbidden)
            return
        made = self._made() if answer is LOST else answer.id
        if made is None:
            return  # it died before anything was written, and nobody asked again
        assert made not in self.model.orders
        self.model.place(made, Order(owner, lines), backorder=backorder, expected=expected)

    def _made(self) -> str | None:
        return self.shop.rooms["order"].database.read.one(
            str,
            "SELECT o.id FROM request r JOIN orders o ON o.id = r.entity WHERE r.key = :key",
            key=f"k{self.n}",
        )

    def _somebody(self, pick: int) -> str:
        known = sorted(self.people) or sorted(self.gone)
        return known[pick % len(known)]

    @precondition(lambda self: any(row.status in LEGAL for row in self.model.orders.values()))
    @rule(pick=chance, death=deaths, after=at_work)
    def move(self, pick, death, after):
        """Some order goes a step on, in a way that the table of moves has."""
        orders = self.model.orders
        target = _pick(sorted(name for name in orders if orders[name].status in LEGAL), pick)
        verb = _pick(LEGAL[orders[target].status], pick // 97)
        self._change(target, verb, pick, death, after)

    @precondition(lambda self: self.model.orders)
    @rule(pick=chance, verb=st.sampled_from(VERBS), death=deaths)
    def overreach(self, pick, verb, death):
        """Somebody asks for a move without looking whether it is possible."""
        self._change(_pick(sorted(self.model.orders), pick), verb, pick, death, 0)

    def _change(self, target: str, verb: str, pick: int, death, after: int) -> None:
        order = self.model.orders[target]
        name = "pay" if verb == "pay in vain" else verb
        token = "tok_visa" if verb == "pay" else "tok_declined"
        body = {"id": target, **({"payment_token": token} if name == "pay" else {})}
        staff = name != "pay" and (name != "cancel" or pick % 2)
        caller = STAFF if staff else Caller("user", order.owner, ("customer",))
        answer = self.ask("order", name, body, caller=caller, death=death, after=after)
        legal = verb in LEGAL.get(order.status, ())
        if not legal or (name == "ship" and order.owner in self.gone):
            assert answer is LOST or isinstance(answer, Conflict), answer
            return
        assert not isinstance(answer, MeshError), answer
        if answer is not LOST or self._version(target) != self.versions[target]:
            self._effect(verb, target)

    def _effect(self, verb: str, target: str) -> None:
        match verb:
            case "pay" | "pay in vain":
                self.model.pay(target, accepted=verb == "pay")
            case "cancel":
                self.model.end(target, "cancelled")
            case "ship":
                self.model.ship(target)
            case "deliver":
                self.model.orders[target].status = "delivered"
            case "return":
                self.model.take_back(target)

    def _version(self, order_id: str) -> int:
        sql = "SELECT version FROM orders WHERE id = :id"
        return self.shop.rooms["order"].database.read.one(int, sql, id=order_id)

    @rule(name=st.sampled_from(PRODUCTS), delta=st.integers(-2, 4), after=at_work)
    def restock(self, name, delta, after):
        body = {"id": name, "delta": delta, "reason": "delivery"}
        answer = self.ask("product", "restock", body, caller=STAFF, after=after)
        if self.model.restock(name, delta):
            assert not isinstance(answer, MeshError), answer
        else:
            assert answer.code == "would-oversell"

    @rule(name=st.sampled_from(PRODUCTS), price=st.integers(100, 6000))
    def reprice(self, name, price):
        self.ask("product", "update", {"id": name, "price_minor": price}, caller=STAFF)
        self.model.products[name].price = price

    @precondition(lambda self: sum(row.sold for row in self.model.products.values()) > 1)
    @rule(name=st.sampled_from(PRODUCTS), after=at_work)
    def discontinue(self, name, after):
        self.ask("product", "discontinue", {"id": name}, caller=STAFF, after=after)
        self.model.discontinue(name)

    @rule(after=at_work)
    def wait_too_long(self, after):
        self.shop.now_ms += HOLD_S * 1000
        self.shop.run(self.shop.rest(after))
        self.model.time_is_over()

    @precondition(lambda self: len(self.people) > 1)
    @rule(pick=chance, after=at_work)
    def erase(self, pick, after):
        user_id = self._somebody(pick)
        me = Caller("user", user_id, ("customer",))
        self.ask("user", "erase", {"id": user_id}, caller=me, after=after)
        self.gone[user_id] = self.people.pop(user_id)
        body = {"email": self.gone[user_id], "password": PASSWORD}
        assert isinstance(self.ask("user", "login", body), Unauthenticated)
        self.model.erase(user_id)

    # --- what must be ------------------------------------------------------------------------

    @invariant()
    def is_what_the_reference_says(self):
        reads = self.shop.rooms["order"].database.read
        found = {
            row.id: row.status for row in reads.all(Row, "SELECT id, status FROM orders LIMIT 500")
        }
        assert found == {name: order.status for name, order in self.model.orders.items()}
        for name, order in self.model.orders.items():
            kept = sum(
                row.amount_minor * (1 if row.kind == "capture" else -1)
                for row in payments.money(reads, name)
                if row.state == "succeeded"
            )
            assert kept == (order.total if order.status in KEPT else 0), name
        stock = self.shop.rooms["product"].database.read.all(
            StockRow, "SELECT id, on_hand, reserved FROM products LIMIT 10"
        )
        assert {row.id: (row.on_hand, row.reserved) for row in stock} == {
            name: (row.on_hand, self.model.reserved(name))
            for name, row in self.model.products.items()
        }
        self.versions = {name: self._version(name) for name in found}

    @invariant()
    def promises_hold(self):
        assert self.shop.wrong() == []


def test_shop_is_what_the_reference_says_whatever_happens_and_whoever_dies():
    run_state_machine_as_test(
        ShopMachine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            derandomize=EXAMPLES == CI_EXAMPLES,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )


def tell(*verbs: str) -> None:
    """One order's story, with what must be looked at after each step."""
    machine = ShopMachine()
    try:
        machine.open(stock=[5, 5])
        machine.place(0, {PRODUCTS[0]: 2}, True, None, None, 0)
        machine.is_what_the_reference_says()
        (target,) = machine.model.orders
        for verb in verbs:
            machine._change(target, verb, 0, None, 0)
            machine.is_what_the_reference_says()
            machine.promises_hold()
    finally:
        machine.teardown()


STORIES = {
    "shipped stock stays on the shelf": (("pay", "ship"), (holding, "_ship", holding._commit)),
    "money is not given back": (("pay", "cancel"), (payments, "refund", lambda *_: 0)),
    "stock is not given back": (("cancel",), (holding, "_release", lambda *_: None)),
}


@pytest.mark.parametrize("what", STORIES)
def test_reference_notices_when(what, monkeypatch):
    verbs, sabotage = STORIES[what]
    tell(*verbs)
    monkeypatch.setattr(*sabotage)
    with pytest.raises(AssertionError):
        tell(*verbs)
