"""What changes in the catalogue and on the shelf, who must have read what, and what is told of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import (
    Conflict,
    Forbidden,
    Gone,
    InvalidInput,
    NotFound,
    PreconditionFailed,
    Refused,
)
from mesh.framework import Caller
from mesh.services.product.model import edges
from mesh.services.product.service import service
from tests.services.in_process import room

SAM = Caller("user", "usr_sam", ("staff",))
ALICE = Caller("user", "usr_alice", ("customer",))
ORDER = Caller("service", "order")
LAMP = "prd_00000000-0000-7000-8000-000000000001"
ONE = "ord_00000000-0000-7000-8000-000000000001"


@pytest.fixture
async def product(tmp_path):
    lamp = {"id": LAMP, "sku": "LAMP-1", "name": "Lamp", "price_minor": 2490, "currency": "EUR"}
    async with room(service, tmp_path) as made:
        await made.plant({"products": [{**lamp, "on_hand": 5, "low_water": 2}]})
        yield made
        assert made.offenders() == {}


def ask(product, operation, /, match=None, caller=SAM, **members):
    return product.ask(operation, {"id": LAMP, **members}, caller=caller, match=match)


def kinds(product) -> list[str]:
    return [told.type.partition(".")[2] for told in product.told()][2:]


async def test_update_is_for_those_who_read_the_newest(product):
    with pytest.raises(Refused) as refused:
        await ask(product, "update", name="Desk lamp")
    assert refused.value.code == "precondition-required"
    with pytest.raises(PreconditionFailed):
        await ask(product, "update", match='"2"', name="Desk lamp")
    shown = await ask(product, "update", match='"1"', name="Desk lamp", price_minor=1990)
    assert (shown.version, shown.name, shown.price_minor, shown.low_water) == (
        2,
        "Desk lamp",
        1990,
        2,
    )
    with pytest.raises(PreconditionFailed) as refused:
        await ask(product, "update", match='"1"', name="Late lamp")
    assert refused.value.facts["version"] == 2
    updated, priced = product.told()[-2:]
    assert (updated.type, updated.data["changed"]) == ("product.updated", ["name", "price_minor"])
    assert (priced.type, priced.data["old_price_minor"], priced.data["price_minor"]) == (
        "product.price_changed",
        2490,
        1990,
    )


async def test_sale_does_not_break_what_staff_have_read(product):
    before = await ask(product, "get")
    await ask(product, "restock", delta=1, reason="delivery")
    after = await ask(product, "get")
    assert before.etag != after.etag
    shown = await ask(product, "update", match=f'"{before.etag}"', low_water=3)
    assert shown.version == 2


async def test_update_to_what_is_there_already_is_none(product):
    same = await ask(product, "update", match="*", name="Lamp", price_minor=2490)
    assert same.version == 1
    assert (await ask(product, "update", match="*")).version == 1
    assert kinds(product) == []


async def test_discontinued_product_is_neither_quoted_nor_held_but_what_is_held_stays(product):
    lines = [{"product_id": LAMP, "quantity": 1}]
    held = await product.ask("hold", {"order_id": ONE, "lines": lines}, caller=ORDER)
    shown = await ask(product, "discontinue", match='"1"')
    assert (shown.status, shown.version) == ("discontinued", 2)
    assert (await ask(product, "discontinue", match="*")).version == 2
    for asked in (
        product.ask("quote", {"lines": lines}),
        product.ask("hold", {"order_id": ONE[:-1] + "2", "lines": lines}, caller=ORDER),
    ):
        with pytest.raises(Gone) as refused:
            await asked
        assert (refused.value.code, refused.value.facts["product_id"]) == ("discontinued", LAMP)
    again = await product.ask("hold", {"order_id": ONE, "lines": lines}, caller=ORDER)
    assert again.version == held.version
    await product.ask("commit-hold", {"order_id": ONE}, caller=ORDER)
    shipped = await product.ask("ship-hold", {"order_id": ONE}, caller=ORDER)
    assert shipped.state == "shipped"
    assert [row.id for row in (await product.ask("list", {"status": "discontinued"})).items] == [
        LAMP
    ]
    assert kinds(product).count("discontinued") == 1


async def test_ship_takes_from_the_shelf_once_and_release_brings_it_back_once(product):
    lines = [{"product_id": LAMP, "quantity": 2}]
    await product.ask("hold", {"order_id": ONE, "lines": lines}, caller=ORDER)
    for _ in range(2):
        await product.ask("ship-hold", {"order_id": ONE}, caller=ORDER)
        assert ((await ask(product, "get")).on_hand, (await ask(product, "get")).reserved) == (3, 0)
    for _ in range(2):
        await product.ask("release-hold", {"order_id": ONE}, caller=ORDER)
        assert (await ask(product, "get")).on_hand == 5
    for name in ("ship-hold", "commit-hold"):
        with pytest.raises(Gone):
            await product.ask(name, {"order_id": ONE}, caller=ORDER)
    with pytest.raises(NotFound):
        await product.ask("get-hold", {"order_id": ONE[:-1] + "9"}, caller=ORDER)


async def test_edges_are_told_once_when_they_are_crossed(product):
    for delta in (-1, -2, -1, -1, 1, 1, 3):
        await ask(product, "restock", delta=delta, reason="count")
    edge = [kind for kind in kinds(product) if kind != "stock_changed"]
    assert edge == ["low_stock", "out_of_stock", "back_in_stock"]
    low = product.told("product.low_stock")[0].data
    assert (low["available"], low["low_water"]) == (2, 2)


@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 20))
def test_edge_is_crossed_in_one_direction_at_a_time(before, after, low_water):
    found = edges(before, after, low_water)
    assert len(found) <= 1
    assert ("out" in found) == (after == 0 < before)
    assert ("back" in found) == (before == 0 < after)
    assert edges(after, after, low_water) == []
    if "low" in found:
        assert 0 < after <= low_water < before


async def test_ledger_shows_every_change_once_the_newest_first(product):
    for n in range(5):
        await ask(product, "restock", delta=1, reason=f"delivery {n}")
    rows, token, pages = [], None, 0
    while pages == 0 or token:
        more = {"page_token": token} if token else {}
        page = await ask(product, "ledger", page_size=4, **more)
        rows, token, pages = rows + page.items, page.next_page_token, pages + 1
    assert [row.stock_version for row in rows] == [6, 5, 4, 3, 2, 1]
    assert [row.on_hand for row in rows] == [10, 9, 8, 7, 6, 5]
    assert pages == 2
    with pytest.raises(InvalidInput):
        await ask(product, "ledger", page_token="1\n")
    with pytest.raises(NotFound):
        await product.ask("ledger", {"id": LAMP[:-1] + "9"}, caller=SAM)


async def test_more_is_not_counted_than_can_be(product):
    with pytest.raises(Conflict) as refused:
        await ask(product, "restock", delta=1_000_000_000, reason="mistake")
    assert refused.value.code == "too-much-stock"


@pytest.mark.parametrize("name", ["update", "discontinue", "ledger", "explain"])
async def test_changes_are_for_staff(product, name):
    with pytest.raises(Forbidden):
        await ask(product, name, match="*", caller=ALICE)
