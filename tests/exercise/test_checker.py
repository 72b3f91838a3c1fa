"""The history checker accepts what can have been, and rejects each way in which it cannot."""

from __future__ import annotations

import copy

import pytest

from mesh import codec
from mesh.exercise.checker import judge
from mesh.exercise.facts import Effect, Facts, Order, Step, Stock
from mesh.exercise.history import Entry
from mesh.services.order.model import MOVES

LAMP = "prd_lamp"


class World:
    """A history and the databases that go with it; tests spoil either."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.facts = Facts(
            orders={},
            stock={LAMP: Stock(100, 0)},
            stock_told={LAMP: Stock(100, 0)},
            users={"usr_alice": "active", "usr_bob": "active"},
            credentials=frozenset({"usr_alice", "usr_bob"}),
            people={"alice": "usr_alice", "bob": "usr_bob", "sam": "usr_sam"},
            staff=frozenset({"usr_sam"}),
            moves=frozenset((row.source, row.target) for row in MOVES.rows),
        )
        self._calls = 0

    def invoke(self, operation: str, *, key=None, by="alice", visit=0, **value) -> int:
        self._calls += 1
        at_ms = float(len(self.entries))
        entry = Entry(at_ms, self._calls, "invoke", operation, visit, by, key, 0, value)
        self.entries.append(entry)
        return self._calls

    def end(self, call: int, kind: str, code: int = 0, /, **value) -> None:
        asked = next(each for each in self.entries if each.call == call)
        at_ms = float(len(self.entries))
        entry = Entry(at_ms, call, kind, asked.operation, 0, asked.by, asked.key, code, value)  # type: ignore[arg-type]
        self.entries.append(entry)

    def did(self, operation: str, *, key=None, by="alice", visit=0, answer=None, **value) -> None:
        call = self.invoke(operation, key=key, by=by, visit=visit, **value)
        self.end(call, "ok", 200, **(answer or {}))

    def effect(self, key: str, route: str, entity: str, status: int | None = 201) -> None:
        caller = "anyone" if route == "register" else "user:usr_alice"
        self.facts.keys.setdefault(key, []).append(Effect("order", route, caller, entity, status))

    def stored(self, order: str, *statuses: str, user: str = "usr_alice") -> None:
        """An order that went through these."""
        steps = [
            Step(number, old, new, number)
            for number, (old, new) in enumerate(
                zip(("", *statuses), statuses, strict=False), start=1
            )
        ]
        self.facts.orders[order] = Order(user, statuses[-1], len(statuses))
        self.facts.steps[order] = steps
        self.facts.told[order] = [*steps]

    def judged(self):
        return judge(self.entries, self.facts)


def shown(order: str, status: str, version: int, user: str = "usr_alice") -> dict[str, object]:
    return {"id": order, "status": status, "version": version, "user_id": user}


def sound() -> World:
    """Bought, looked at, restocked, listed, joined; one order unknown and made, one never made."""
    world = World()
    world.did("order.create", key="k1", answer=shown("ord_1", "reserved", 2))
    world.effect("k1", "create", "ord_1")
    world.did("order.pay", key="k2", id="ord_1", answer=shown("ord_1", "paid", 4))
    world.effect("k2", "pay", "")
    world.did("order.get", id="ord_1", answer=shown("ord_1", "paid", 4))
    world.stored("ord_1", "pending", "reserved", "paying", "paid")
    world.end(world.invoke("order.create", key="k3"), "unknown")
    world.effect("k3", "create", "ord_3")
    world.stored("ord_3", "pending", "rejected")
    world.end(world.invoke("order.create", key="k4"), "unknown")
    world.end(world.invoke("order.create", key="k5"), "unknown")
    world.did("order.create", key="k5", answer=shown("ord_5", "reserved", 2))
    world.effect("k5", "create", "ord_5")
    world.stored("ord_5", "pending", "reserved")
    world.end(world.invoke("order.cancel", key="k6", id="ord_1", by="bob"), "fail", 404)
    world.did(
        "product.restock", key="k7", by="sam", id=LAMP, delta=20, reason="delivery 7", answer={}
    )
    world.effect("k7", "restock", "", 201)
    world.facts.restocks["delivery 7"] = [20]
    world.did(
        "product.list",
        answer={"items": [{"id": LAMP, "on_hand": 100, "reserved": 3, "available": 97}]},
    )
    world.did("user.register", key="k8", by=None, answer={"id": "usr_bob"})
    world.effect("k8", "register", "usr_bob", None)
    world.did("order.list", by="sam", answer={"items": [shown("ord_1", "paid", 4)]})
    world.invoke("order.create", key="k9")
    return world


def test_sound_history_is_accepted_and_its_unknowns_are_resolved():
    judged = sound().judged()
    assert judged.wrong == ()
    assert (judged.unknown, judged.happened, judged.not_happened) == (3, 1, 2)


def test_empty_history_over_empty_databases_is_accepted():
    assert judge([], Facts()).ok


def test_history_without_the_shops_tables_is_judged_by_its_keys_alone():
    world = sound()
    keys = Facts(keys=world.facts.keys)
    assert judge(world.entries, keys).ok
    del keys.keys["k1"]
    assert [each.rule for each in judge(world.entries, keys).wrong] == ["C1"]


def lost_order(world: World) -> None:
    del world.facts.keys["k1"]


def lost_row(world: World) -> None:
    for place in (world.facts.orders, world.facts.steps, world.facts.told):
        place.pop("ord_1")


def doubled_effect(world: World) -> None:
    world.effect("k1", "create", "ord_5")


def doubled_unknown(world: World) -> None:
    world.effect("k3", "create", "ord_5")


def one_order_for_two_keys(world: World) -> None:
    world.facts.keys["k5"] = [Effect("order", "create", "user:usr_alice", "ord_1", 201)]


def refused_and_done(world: World) -> None:
    world.effect("k6", "cancel", "", 200)


def answered_with_another_id(world: World) -> None:
    world.did("order.create", key="k1", answer=shown("ord_5", "reserved", 2))


def answer_of_nobody(world: World) -> None:
    world.end(world.invoke("order.get"), "ok")
    world.entries.append(Entry(0.0, 999, "ok", "order.get"))


def lost_delivery(world: World) -> None:
    world.facts.restocks.clear()


def doubled_delivery(world: World) -> None:
    world.facts.restocks["delivery 7"].append(20)


def delivery_of_another_size(world: World) -> None:
    world.facts.restocks["delivery 7"] = [19]


def refused_delivery_in_the_ledger(world: World) -> None:
    call = world.invoke("product.restock", key="k10", delta=5, reason="delivery 10")
    world.end(call, "fail", 409)
    world.facts.restocks["delivery 10"] = [5]


def unknown_delivery_twice(world: World) -> None:
    call = world.invoke("product.restock", key="k10", delta=5, reason="delivery 10")
    world.end(call, "unknown")
    world.facts.restocks["delivery 10"] = [5, 5]


def less_than_nothing(world: World) -> None:
    world.did("product.get", id=LAMP, answer={"id": LAMP, "available": -1})


def more_reserved_than_there(world: World) -> None:
    items = [{"id": LAMP, "on_hand": 1, "reserved": 2}]
    world.did("product.list", answer={"items": items})


def lost_event(world: World) -> None:
    world.facts.told["ord_1"].pop(1)


def doubled_event(world: World) -> None:
    world.facts.told["ord_1"].append(world.facts.told["ord_1"][-1])


def swapped_events(world: World) -> None:
    told = world.facts.told["ord_1"]
    told[1], told[2] = told[2], told[1]


def order_beyond_its_events(world: World) -> None:
    world.facts.orders["ord_5"] = Order("usr_alice", "paid", 3)


def stock_beside_its_events(world: World) -> None:
    world.facts.stock[LAMP] = Stock(99, 0)


def reserved_beside_its_events(world: World) -> None:
    world.facts.stock_told[LAMP] = Stock(100, 1)


def illegal_step(world: World) -> None:
    world.stored("ord_5", "pending", "paid")


def step_from_elsewhere(world: World) -> None:
    world.facts.steps["ord_5"][1] = Step(2, "backordered", "reserved")
    world.facts.told["ord_5"][1] = Step(2, "backordered", "reserved")


def gap_in_the_versions(world: World) -> None:
    for steps in (world.facts.steps, world.facts.told):
        steps["ord_5"][1] = Step(3, "pending", "reserved")
    world.facts.orders["ord_5"] = Order("usr_alice", "reserved", 3)


def never_decided(world: World) -> None:
    world.stored("ord_3", "pending")


def shown_as_it_never_was(world: World) -> None:
    world.did("order.get", id="ord_1", answer=shown("ord_1", "cancelled", 4))


def shown_from_the_future(world: World) -> None:
    world.did("order.get", id="ord_1", answer=shown("ord_1", "shipped", 5))


def stale_read(world: World) -> None:
    world.did("order.get", id="ord_1", answer=shown("ord_1", "reserved", 2))


def shown_to_another(world: World) -> None:
    world.did("order.get", by="bob", id="ord_1", answer=shown("ord_1", "paid", 4))


def listed_to_another(world: World) -> None:
    world.did("order.list", by="bob", answer={"items": [shown("ord_1", "paid", 4)]})


def ordered_by_who_is_gone(world: World) -> None:
    world.facts.closed["usr_alice"] = -5000


def registered_and_forgotten(world: World) -> None:
    world.did("user.register", key="k11", by=None, answer={"id": "usr_carol"})
    world.effect("k11", "register", "usr_carol", None)


def registered_without_password(world: World) -> None:
    world.facts.credentials = frozenset({"usr_alice"})


def unkept_answer(world: World) -> None:
    world.facts.keys["k1"] = [Effect("order", "create", "user:usr_alice", "ord_1", None)]


def effect_of_nobody(world: World) -> None:
    world.effect("k99", "create", "ord_99")
    world.stored("ord_99", "pending", "reserved")


def lost_order_of_who_has_left(world: World) -> None:
    world.did("order.create", key="k12", by=None, visit=7, answer=shown("ord_12", "reserved", 2))
    world.did("user.erase", key="k13", by=None, visit=7, id="usr_carol")
    world.facts.steps["ord_12"] = [Step(1, "", "pending"), Step(2, "pending", "reserved")]


def delivery_of_nobody(world: World) -> None:
    world.facts.restocks["delivery 8"] = [20]


def unknown_delivery_of_another_size(world: World) -> None:
    call = world.invoke("product.restock", key="k10", delta=5, reason="delivery 10")
    world.end(call, "unknown")
    world.facts.restocks["delivery 10"] = [6]


def unknown_order_told_and_lost(world: World) -> None:
    del world.facts.keys["k3"]
    for place in (world.facts.orders, world.facts.steps):
        place.pop("ord_3")


def stock_told_and_lost(world: World) -> None:
    world.facts.stock_told["prd_chair"] = Stock(1, 0)


def erased_and_there(world: World) -> None:
    world.did("user.erase", by=None, visit=7, id="usr_bob")


DOCTORED = {
    unkept_answer: "C1",
    effect_of_nobody: "C1",
    lost_order_of_who_has_left: "C1",
    delivery_of_nobody: "C2",
    unknown_delivery_of_another_size: "C2",
    unknown_order_told_and_lost: "C4",
    stock_told_and_lost: "C5",
    erased_and_there: "C9",
    lost_order: "C1",
    lost_row: "C1",
    doubled_effect: "C1",
    doubled_unknown: "C1",
    one_order_for_two_keys: "C1",
    refused_and_done: "C1",
    answered_with_another_id: "C1",
    answer_of_nobody: "C1",
    lost_delivery: "C2",
    doubled_delivery: "C2",
    delivery_of_another_size: "C2",
    refused_delivery_in_the_ledger: "C2",
    unknown_delivery_twice: "C2",
    less_than_nothing: "C3",
    more_reserved_than_there: "C3",
    lost_event: "C4",
    doubled_event: "C4",
    swapped_events: "C4",
    order_beyond_its_events: "C5",
    stock_beside_its_events: "C5",
    reserved_beside_its_events: "C5",
    illegal_step: "C6",
    step_from_elsewhere: "C6",
    gap_in_the_versions: "C6",
    never_decided: "C6",
    shown_as_it_never_was: "C6",
    shown_from_the_future: "C6",
    stale_read: "C7",
    shown_to_another: "C8",
    listed_to_another: "C8",
    ordered_by_who_is_gone: "C8",
    registered_and_forgotten: "C9",
    registered_without_password: "C9",
}


@pytest.mark.parametrize("spoil", DOCTORED, ids=lambda spoil: spoil.__name__)
def test_doctored_history_is_rejected_by_its_rule(spoil):
    world = sound()
    spoil(world)
    assert DOCTORED[spoil] in {each.rule for each in world.judged().wrong}


def test_each_rule_has_a_doctored_history():
    assert set(DOCTORED.values()) == {f"C{n}" for n in range(1, 10)}
    assert len(DOCTORED) >= 20


def dropped(world: World, kind: str) -> World:
    """Without the last entry of this kind that carries a key."""
    spoilt = copy.copy(world)
    place = max(n for n, each in enumerate(world.entries) if each.type == kind and each.key)
    spoilt.entries = world.entries[:place] + world.entries[place + 1 :]
    return spoilt


def test_answer_that_was_not_written_down_is_unknown_and_no_contradiction():
    judged = dropped(sound(), "ok").judged()
    assert judged.ok
    assert judged.unknown == 4


def test_keys_of_who_has_left_are_forgotten_and_no_contradiction():
    world = sound()
    world.did("user.register", key="k11", by=None, visit=7, answer={"id": "usr_carol"})
    world.did("order.create", key="k12", by=None, visit=7, answer=shown("ord_12", "reserved", 2))
    world.stored("ord_12", "pending", "reserved", "cancelled", user="usr_carol")
    assert {each.rule for each in world.judged().wrong} == {"C1", "C9"}
    world.did("user.erase", key="k13", by=None, visit=7, id="usr_carol")
    assert world.judged().wrong == ()


def test_old_events_that_are_gone_are_not_missed():
    world = sound()
    lost_event(world)
    world.facts.whole = False
    assert world.judged().ok


def test_entries_come_back_from_their_file_as_they_were(tmp_path):
    from mesh.exercise import history

    world = sound()
    file = tmp_path / "history.jsonl"
    file.write_bytes(b"".join(codec.encode(each) + b"\n" for each in world.entries))
    assert list(history.read(file)) == world.entries
