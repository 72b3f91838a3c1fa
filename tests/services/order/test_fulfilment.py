"""From paid to delivered and back: who may, what it leaves for later, and what product makes of it."""

from __future__ import annotations

import pytest

from mesh.errors import Conflict, Forbidden, InvalidInput, NotFound
from mesh.services.order.model import MOVES
from mesh.services.order.service import service
from tests.framework.mortal import STEPS_MAX, deaths
from tests.services.order import at_rest
from tests.services.order.conftest import ALICE, BOB, LAMP, SAM
from tests.services.order.support import create, deliver, left, offenders, plant, restock, work

VISA = "tok_visa"


async def placed(order, status: str, key: str = "k"):
    """An order of one lamp, brought as far as that."""
    made = await create(order, 1, key=key)
    for name, caller, more, reached in (
        ("pay", ALICE, {"payment_token": VISA}, "paid"),
        ("ship", SAM, {"carrier": "DHL", "tracking": "JD01"}, "shipped"),
        ("deliver", SAM, {}, "delivered"),
        ("return", SAM, {}, "returned"),
    ):
        if made.status == status:
            return made
        made = await order.ask(name, {"id": made.id, **more}, caller=caller)
        assert made.status == reached
    return made


def stock(product) -> tuple[int, int]:
    (on_hand,) = product.database.read.all(
        int, "SELECT on_hand FROM products WHERE id = :i", i=LAMP
    )
    (held,) = product.database.read.all(int, "SELECT reserved FROM products WHERE id = :i", i=LAMP)
    return on_hand, held


async def test_shipped_stock_leaves_the_shelf_and_comes_back_with_the_money(order, product):
    await plant(product, 3)
    shown = await placed(order, "shipped")
    assert (shown.carrier, shown.tracking) == ("DHL", "JD01")
    assert stock(product) == (3, 1)
    assert await work(order) == ["ship-hold"]
    assert stock(product) == (2, 0)
    await order.ask("deliver", {"id": shown.id}, caller=SAM)
    await order.ask("return", {"id": shown.id, "reason": "too bright"}, caller=SAM)
    assert sorted(left(order)) == ["expire", "refund", "release"]
    await work(order)
    assert stock(product) == (3, 0)
    reasons = [told.data["reason"] for told in product.told("product.stock_changed")]
    assert reasons == ["seed", "hold", "ship", "return"]
    kept = order.database.read.one(
        int, "SELECT sum(CASE kind WHEN 'capture' THEN 1 ELSE -1 END * amount_minor) FROM payments"
    )
    assert kept == 0
    await deliver(product, order)
    assert at_rest.wrong(order, product) == []


async def test_return_that_overtakes_the_shipping_of_its_hold_loses_nothing(order, product):
    await plant(product, 3)
    await placed(order, "returned")
    assert sorted(left(order)) == ["expire", "refund", "release", "ship-hold"]
    assert await work(order, only={"release"}) == ["release"]
    await work(order)
    assert stock(product) == (3, 0)
    assert left(order) == ["expire"]


async def test_work_is_left_in_the_commit_of_the_move_as_the_table_has_it(order, product):
    await plant(product, 9)
    for n, (status, cause, caller) in enumerate(
        [("paid", "ship", SAM), ("paid", "cancel", ALICE), ("delivered", "return", SAM)]
    ):
        made = await placed(order, status, key=f"{n}")
        await work(order)
        await order.ask(cause, {"id": made.id}, caller=caller)
        owed = order.database.read.all(
            str, "SELECT action FROM deferred WHERE key = :id ORDER BY action", id=made.id
        )
        assert owed == sorted(MOVES.find(status, cause).defers)


@pytest.mark.parametrize("status", ["reserved", "paid", "shipped", "delivered", "returned"])
async def test_illegal_move_says_what_is_allowed(order, product, status):
    await plant(product, 3)
    made = await placed(order, status)
    allowed = {row.cause for row in MOVES.out_of(status) if row.by}
    names = {"pay", "cancel", "ship", "deliver", "return"}
    for name in names - allowed:
        caller = ALICE if name == "pay" else SAM
        more = {"payment_token": VISA} if name == "pay" else {}
        with pytest.raises(Conflict) as refused:
            await order.ask(name, {"id": made.id, **more}, caller=caller)
        assert refused.value.code == "illegal-transition"
        assert refused.value.facts["order_status"] == status
        assert set(refused.value.facts["allowed"]) == allowed
    assert (await order.ask("get", {"id": made.id}, caller=ALICE)).version == made.version


async def test_every_operation_of_the_table_of_moves_is_for_whom_the_table_says():
    rows = {row.name: row.allow for row in service.operations}
    for move in MOVES.rows:
        if move.by:
            allow = rows[move.cause]
            assert ("staff" in allow.roles) == ("staff" in move.by), move
            assert (allow.owner or "customer" in allow.roles) == (
                bool({"owner", "customer"} & set(move.by))
            ), move


async def test_order_is_shipped_by_staff_and_cancelled_by_its_owner_alone(order, product):
    await plant(product, 3)
    made = await placed(order, "paid")
    for name in ("ship", "deliver", "return"):
        with pytest.raises(Forbidden):
            await order.ask(name, {"id": made.id}, caller=ALICE)
    for name in ("get", "history", "cancel", "explain"):
        with pytest.raises(NotFound):
            await order.ask(name, {"id": made.id}, caller=BOB)
    with pytest.raises(NotFound):
        await order.ask("pay", {"id": made.id, "payment_token": VISA}, caller=SAM)


async def test_events_tell_no_words_of_a_person(order, product):
    await plant(product, 3)
    made = await placed(order, "paid")
    reason = "Aunt Ludmilla has died"
    shown = await order.ask("cancel", {"id": made.id, "reason": reason}, caller=ALICE)
    assert shown.reason == reason
    assert order.told()[-1].data["reason"] == "cancelled by its owner"
    assert reason not in str([told.data for told in order.told()])


async def test_ship_takes_effect_once_when_its_process_dies_at_any_await(order, product):
    await plant(product, 100)
    made = [await placed(order, "paid", key=f"k{n}") for n in range(STEPS_MAX // 4)]
    died = 0

    async def ask(n):
        return await order.ask(
            "ship", {"id": made[n].id, "carrier": "DHL"}, caller=SAM, key=f"s{n}"
        )

    async for at in deaths(order, ask):
        died += 1
        shown = await ask(at)
        assert (shown.status, shown.version) == ("shipped", 5)
        assert await ask(at) == shown
    assert died == 2
    await work(order)
    assert offenders(order) == offenders(product) == []


async def test_backorders_of_what_is_sold_no_longer_are_cancelled(order, product):
    await plant(product, 0, 5)
    await deliver(product, order)
    waits = await create(order, 1, 1, key="a")
    other = await create(order, 0, 1, key="b")
    await product.ask("discontinue", {"id": LAMP}, caller=SAM, match="*")
    await deliver(product, order)
    assert await work(order) == ["wake", "release"]
    shown = await order.ask("get", {"id": waits.id}, caller=ALICE)
    assert (shown.status, shown.reason) == ("cancelled", "discontinued")
    assert (await order.ask("get", {"id": other.id}, caller=ALICE)).status == "reserved"
    late = await create(order, 1, key="c")
    assert (late.status, late.reason) == ("rejected", "discontinued")
    await work(order)
    assert at_rest.wrong(order, product) == []


async def test_price_of_today_is_known_and_changes_no_order(order, product):
    await plant(product, 0)
    waits = await create(order, 1, key="a")
    await product.ask("update", {"id": LAMP, "price_minor": 9900}, caller=SAM, match="*")
    await restock(product, 1)
    await deliver(product, order)
    await work(order)
    shown = await order.ask("get", {"id": waits.id}, caller=ALICE)
    assert (shown.status, shown.subtotal_minor) == ("reserved", 2490)
    told = await order.ask("explain", {"id": waits.id}, caller=ALICE)
    assert told.lines[0].heard_price_minor == 9900
    dear = await create(order, 1, key="b", expected_total_minor=2980)
    assert (dear.status, dear.reason, dear.total_minor) == ("rejected", "price-changed", 9900)


async def test_order_list_is_filtered_and_paged(order, product):
    await plant(product, 9, 9)
    for n, caller in enumerate([ALICE, ALICE, BOB, ALICE]):
        await create(order, 1, caller=caller, key=f"{n}")
    first = await order.ask("list", {"page_size": 2}, caller=ALICE)
    rest = await order.ask(
        "list", {"page_size": 2, "page_token": first.next_page_token}, caller=ALICE
    )
    assert (len(first.items), len(rest.items), rest.next_page_token) == (2, 1, None)
    assert {row.user_id for row in (*first.items, *rest.items)} == {ALICE.id}
    bobs = await order.ask("list", {"user_id": BOB.id}, caller=SAM)
    assert [row.user_id for row in bobs.items] == [BOB.id]
    assert (await order.ask("list", {"user_id": BOB.id}, caller=ALICE)).items == []
    assert len((await order.ask("list", {}, caller=SAM)).items) == 4
    assert (await order.ask("list", {"status": "paid"}, caller=ALICE)).items == []


async def test_more_of_a_product_than_a_line_may_hold_is_refused_at_once(order, product):
    await plant(product, 1)
    line = {"product_id": LAMP, "quantity": 1000}
    with pytest.raises(InvalidInput) as refused:
        await create(order, key="k", lines=[line] * 11)
    assert refused.value.pointer == "/lines"
    assert order.told() == []
