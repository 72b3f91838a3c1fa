"""Stock: held all or nothing, given back once, never sold twice, each change on the ledger."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from mesh.errors import Conflict, Gone, NotFound
from mesh.services.product import messages, model
from mesh.services.product.service import service
from tests.services.in_process import outcomes, room
from tests.services.product.conftest import HOLD_S, LAMP, MUG, ONE, ORDER, SAM, TWO, Shop, order_id


async def test_hold_takes_every_line_when_there_is_enough(shop: Shop):
    held = await shop.hold(ONE, {MUG: 2, LAMP: 3})
    assert (held.state, held.version) == ("held", 1)
    assert held.expires_at_ms == shop.wall.now_ms + model.HOLD_MS
    assert [(line.product_id, line.quantity, line.available) for line in held.lines] == [
        (LAMP, 3, 7),
        (MUG, 2, 0),
    ]
    assert [(line.unit_price_minor, line.stock_version) for line in held.lines] == [
        (2490, 2),
        (990, 2),
    ]
    assert (shop.reserved(LAMP), shop.reserved(MUG)) == (3, 2)


async def test_hold_adds_up_lines_of_one_product(shop: Shop):
    lines = [{"product_id": LAMP, "quantity": 2}, {"product_id": LAMP, "quantity": 3}]
    held = await shop.room.ask("hold", {"order_id": ONE, "lines": lines}, caller=ORDER)
    assert [line.quantity for line in held.lines] == [5]


async def test_hold_takes_nothing_when_one_line_is_short(shop: Shop):
    ledger, told = shop.ledger(), len(shop.room.told())
    with pytest.raises(Conflict) as caught:
        await shop.hold(ONE, {LAMP: 4, MUG: 3})
    facts = caught.value.facts
    assert caught.value.code == "insufficient-stock"
    assert facts["shortages"] == [{"product_id": MUG, "wanted": 3, "available": 2}]
    assert facts["versions"] == {LAMP: 1, MUG: 1}
    assert [(line.product_id, line.quantity, line.available) for line in facts["lines"]] == [
        (LAMP, 4, 10),
        (MUG, 3, 2),
    ]
    assert (shop.reserved(LAMP), shop.reserved(MUG)) == (0, 0)
    assert (shop.ledger(), len(shop.room.told()), shop.looks()) == (ledger, told, [])


async def test_hold_takes_nothing_when_a_product_is_unknown(shop: Shop):
    other = LAMP.replace("1", "9")
    with pytest.raises(NotFound) as caught:
        await shop.hold(ONE, {LAMP: 1, other: 1})
    assert (caught.value.code, caught.value.facts["product_id"]) == ("unknown-product", other)
    assert shop.reserved() == 0


@pytest.mark.parametrize(
    ("product", "quantity", "error", "code"),
    [
        (LAMP.replace("1", "9"), 1, NotFound, "unknown-product"),
        (MUG, 1, Gone, "discontinued"),
        (LAMP, 11, Conflict, "insufficient-stock"),
    ],
)
async def test_hold_of_one_line_changes_nothing_when_it_is_refused(
    shop: Shop, product: str, quantity: int, error: type[Exception], code: str
):
    await shop.room.ask("discontinue", {"id": MUG}, caller=SAM, match="*")
    ledger, told = shop.ledger(), len(shop.room.told())
    with pytest.raises(error) as caught:
        await shop.hold(ONE, {product: quantity})
    assert caught.value.code == code
    assert (shop.reserved(LAMP), shop.reserved(MUG)) == (0, 0)
    assert (shop.ledger(), len(shop.room.told()), shop.looks()) == (ledger, told, [])
    with pytest.raises(NotFound):
        await shop.room.ask("get-hold", {"order_id": ONE}, caller=ORDER)


async def test_hold_answers_the_same_when_asked_again(shop: Shop):
    first = await shop.hold(ONE, {LAMP: 3, MUG: 1})
    ledger = shop.ledger()
    shop.wall.forward(60)
    assert await shop.hold(ONE, {MUG: 1, LAMP: 3}) == first
    assert (shop.reserved(), shop.ledger()) == (3, ledger)


@pytest.mark.parametrize("lines", [{LAMP: 4}, {LAMP: 3, MUG: 1}, {MUG: 3}])
async def test_hold_is_refused_when_the_order_holds_other_lines(shop: Shop, lines: dict[str, int]):
    await shop.hold(ONE, {LAMP: 3})
    with pytest.raises(Conflict) as caught:
        await shop.hold(ONE, lines)
    assert caught.value.code == "hold-differs"
    assert (shop.reserved(LAMP), shop.reserved(MUG)) == (3, 0)


async def test_release_gives_back_once(shop: Shop):
    await shop.hold(ONE, {LAMP: 3})
    await shop.hold(TWO, {LAMP: 5})
    await shop.release(ONE)
    ledger = shop.ledger()
    await shop.release(ONE)
    assert (shop.reserved(), shop.ledger()) == (5, ledger)
    with pytest.raises(Gone):
        await shop.hold(ONE, {LAMP: 3})
    with pytest.raises(Gone):
        await shop.commit(ONE)


async def test_release_of_an_unknown_order_forbids_its_later_hold(shop: Shop):
    await shop.release(ONE)
    await shop.release(ONE)
    with pytest.raises(Gone) as caught:
        await shop.hold(ONE, {LAMP: 1})
    assert caught.value.code == "hold-gone"
    assert shop.reserved() == 0


async def test_release_gives_back_what_was_committed(shop: Shop):
    await shop.hold(ONE, {LAMP: 3})
    await shop.commit(ONE)
    await shop.release(ONE)
    assert shop.reserved() == 0


async def test_commit_is_refused_when_nothing_was_ever_held(shop: Shop):
    with pytest.raises(Gone) as caught:
        await shop.commit(ONE)
    assert caught.value.code == "hold-gone"


async def test_restock_is_refused_when_less_would_be_left_than_is_reserved(shop: Shop):
    await shop.hold(ONE, {LAMP: 4})
    assert (await shop.restock(LAMP, -6)).on_hand == 4
    ledger, told = shop.ledger(), len(shop.changes())
    with pytest.raises(Conflict) as caught:
        await shop.restock(LAMP, -1)
    assert caught.value.code == "would-oversell"
    assert (shop.stock(LAMP).on_hand, shop.ledger(), len(shop.changes())) == (4, ledger, told)


async def test_each_change_has_one_ledger_row_and_one_event(shop: Shop):
    await shop.hold(ONE, {LAMP: 3})
    await shop.restock(LAMP, 5)
    await shop.release(ONE)
    lamps = [data for data in shop.changes() if data["product_id"] == LAMP]
    assert [
        (data["stock_version"], data["reason"], data["d_on_hand"], data["d_reserved"])
        for data in lamps
    ] == [(1, "seed", 10, 0), (2, "hold", 0, 3), (3, "count", 5, 0), (4, "release", 0, -3)]
    assert all(data["available"] == data["on_hand"] - data["reserved"] for data in lamps)
    assert [data["ref"] for data in lamps] == ["", ONE, "", ONE]
    assert shop.ledger() == len(shop.changes())


async def test_offenders_names_what_was_changed_beside_the_ledger(tmp_path):
    async with room(service, tmp_path) as made:
        await made.plant(
            messages.Seed([messages.SeedProduct(LAMP, "LAMP-1", "Desk lamp", 2490, "EUR", 10)])
        )
        await made.transact(lambda tx: tx.execute("UPDATE products SET on_hand = 11"))
        assert made.offenders() == {"stock-adds-up": [LAMP]}
        await made.transact(lambda tx: tx.execute("DELETE FROM outbox WHERE seq > 0"))
        assert set(made.offenders()) == {"stock-adds-up", "changes-told"}


async def test_fifty_holds_at_once_never_oversell(shop: Shop):
    found = await outcomes(*(shop.hold(order_id(n), {LAMP: 1, MUG: 1}) for n in range(50)))
    counted = Counter(one if isinstance(one, str) else one.state for one in found)
    assert counted == {"held": 2, "insufficient-stock": 48}
    assert (shop.reserved(LAMP), shop.reserved(MUG)) == (2, 2)


async def test_one_order_asked_for_many_times_at_once_holds_once(shop: Shop):
    found = await asyncio.gather(*(shop.hold(ONE, {LAMP: 2}) for _ in range(20)))
    assert {one.version for one in found} == {1}
    assert shop.reserved() == 2


class Model:
    """What the shop should hold, kept in the simplest way."""

    def __init__(self) -> None:
        self.on_hand = {LAMP: 10, MUG: 2}
        self.holds: dict[str, tuple[str, int, dict[str, int], int]] = {}

    def reserved(self, product: str) -> int:
        open_states = {"held", "committed"}
        return sum(
            lines.get(product, 0)
            for state, _, lines, _ in self.holds.values()
            if state in open_states
        )

    def hold(self, order: str, lines: dict[str, int], now_ms: int) -> str:
        state, version, before, _ = self.holds.get(order, ("", 0, {}, 0))
        if state == "released":
            return "hold-gone"
        if state in {"held", "committed"}:
            return state if before == lines else "hold-differs"
        if any(self.on_hand[p] - self.reserved(p) < n for p, n in lines.items()):
            return "insufficient-stock"
        self.holds[order] = ("held", version + 1, lines, now_ms + model.HOLD_MS)
        return "held"

    def commit(self, order: str) -> str:
        state, version, lines, until = self.holds.get(order, ("", 0, {}, 0))
        if state not in {"held", "committed"}:
            return "hold-gone"
        self.holds[order] = ("committed", version, lines, until)
        return "committed"

    def release(self, order: str) -> None:
        _, version, lines, until = self.holds.get(order, ("", 0, {}, 0))
        self.holds[order] = ("released", version, lines, until)

    def restock(self, product: str, delta: int) -> str | None:
        if self.on_hand[product] + delta < self.reserved(product):
            return "would-oversell"
        self.on_hand[product] += delta
        return None

    def expire(self, now_ms: int) -> int:
        due = [
            (order, hold)
            for order, hold in self.holds.items()
            if hold[0] == "held" and hold[3] <= now_ms
        ]
        for order, (_, version, lines, until) in due:
            self.holds[order] = ("expired", version, lines, until)
        return len(due)


STEPS = 120


@pytest.mark.parametrize("seed", range(5))
async def test_stock_agrees_with_its_model_on_a_random_walk(shop: Shop, seed: int):
    dice = random.Random(seed)
    expected = Model()
    expirations = 0
    for _ in range(STEPS):
        order = order_id(dice.randrange(8))
        match dice.choices(["hold", "commit", "release", "restock", "wait"], [8, 2, 1, 3, 3])[0]:
            case "hold":
                products = dice.sample([LAMP, MUG], dice.randint(1, 2))
                lines = {product: dice.randint(1, 3) for product in products}
                (found,) = await outcomes(shop.hold(order, lines))
                said = found if isinstance(found, str) else found.state
                assert said == expected.hold(order, lines, shop.wall.now_ms)
                if not isinstance(found, str):
                    assert found.version == expected.holds[order][1]
            case "commit":
                (found,) = await outcomes(shop.commit(order))
                said = found if isinstance(found, str) else found.state
                assert said == expected.commit(order)
            case "release":
                if order in expected.holds and dice.random() < 0.5:
                    continue
                await shop.release(order)
                expected.release(order)
            case "restock":
                product, delta = dice.choice([LAMP, MUG]), dice.randint(-4, 4)
                (found,) = await outcomes(shop.restock(product, delta))
                refused = found if isinstance(found, str) else None
                assert refused == expected.restock(product, delta)
            case "wait":
                shop.wall.forward(HOLD_S * dice.random())
                expirations += expected.expire(shop.wall.now_ms)
                await shop.run_due()
        for product in (LAMP, MUG):
            stock = shop.stock(product)
            assert stock.on_hand == expected.on_hand[product]
            assert stock.reserved == expected.reserved(product)
        assert shop.room.offenders() == {}
    assert expirations, "the walk never saw a hold expire"
    assert len(shop.ended()) == expirations
