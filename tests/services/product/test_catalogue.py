"""The catalogue as it is read: pages, filters, quotes; and a product added once."""

from __future__ import annotations

import pytest

from mesh.errors import Conflict, Forbidden, InvalidInput, NotFound, Unauthenticated
from mesh.framework import Caller
from mesh.services.product.service import service
from tests.services.in_process import room

SAM = Caller("user", "usr_sam", ("staff",))
ALICE = Caller("user", "usr_alice", ("customer",))
MANY = 20_000


def seed(n: int, **more: object) -> dict[str, object]:
    return {
        "id": f"prd_00000000-0000-7000-8000-{n:012d}",
        "sku": f"SKU-{n}",
        "name": f"Product {n}",
        "price_minor": 100,
        "currency": "EUR",
        "on_hand": n % 2,
        **more,
    }


@pytest.fixture
async def product(tmp_path):
    async with room(service, tmp_path) as made:
        yield made


def fill(tx):
    tx.execute(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :many)"
        " INSERT INTO products (id, sku, name, description, price_minor, currency)"
        " SELECT printf('prd_00000000-0000-7000-8000-%012d', i), 'SKU-' || i, 'Mug', '', 1, 'EUR'"
        " FROM n",
        many=MANY,
    )


async def test_pages_show_everything_once_and_in_order(product):
    await product.plant({"products": [seed(n) for n in range(1, 8)]})
    found, token, pages = [], None, 0
    while pages == 0 or token:
        wanted = {"page_size": 3, **({"page_token": token} if token else {})}
        page = await product.ask("list", wanted)
        found += [row.sku for row in page.items]
        token, pages = page.next_page_token, pages + 1
    assert found == [f"SKU-{n}" for n in range(1, 8)]
    assert pages == 3


async def test_last_page_has_no_next_when_it_is_just_full(product):
    await product.plant({"products": [seed(1), seed(2)]})
    page = await product.ask("list", {"page_size": 2})
    assert (len(page.items), page.next_page_token) == (2, None)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"q": "teapot"}, ["SKU-1"]),
        ({"q": "sku-2"}, ["SKU-2"]),
        ({"q": "%"}, []),
        ({"q": "_"}, []),
        ({"in_stock": True}, ["SKU-1", "SKU-3"]),
        ({"in_stock": False}, ["SKU-2"]),
        ({"status": "discontinued"}, []),
        ({"status": "active", "in_stock": True, "q": "3"}, ["SKU-3"]),
    ],
)
async def test_filters_look_at_name_sku_stock_and_status(product, wanted, found):
    await product.plant({"products": [seed(1, name="TeaPot"), seed(2), seed(3)]})
    assert [row.sku for row in (await product.ask("list", wanted)).items] == found


@pytest.mark.parametrize(
    "wanted",
    [{}, {"q": "nowhere"}, {"in_stock": True}, {"status": "discontinued"}, {"q": "SKU-19999"}],
)
async def test_page_is_shown_when_the_catalogue_is_large_and_little_matches(product, wanted):
    await product.transact(fill)
    page = await product.ask("list", wanted)
    assert len(page.items) == {(): 20, ("SKU-19999",): 1}.get(tuple(wanted.values()), 0)


async def test_quote_tells_price_and_stock_and_holds_nothing(product):
    await product.plant({"products": [seed(1), seed(2)]})
    line = {"product_id": seed(1)["id"], "quantity": 1}
    once = await product.ask("quote", {"lines": [line]})
    assert (once.enough, once.lines[0].available, once.lines[0].unit_price_minor) == (True, 1, 100)
    twice = await product.ask("quote", {"lines": [line, line]})
    assert (twice.enough, twice.lines[0].quantity) == (False, 2)
    assert product.told("product.stock_changed")[-1].data["reason"] == "seed"


async def test_quote_of_an_unknown_product_is_refused(product):
    with pytest.raises(NotFound) as refused:
        await product.ask("quote", {"lines": [{"product_id": seed(1)["id"], "quantity": 1}]})
    assert refused.value.code == "unknown-product"
    assert refused.value.facts["product_id"] == seed(1)["id"]


NEW = {"sku": "KETTLE-1", "name": "Kettle", "price_minor": 3900, "currency": "EUR", "on_hand": 4}


async def test_product_is_added_once_when_the_request_is_sent_again(product):
    first = await product.ask("create", NEW, caller=SAM, key="k")
    assert (first.on_hand, first.available, first.version, first.stock_version) == (4, 4, 1, 1)
    assert await product.ask("create", NEW, caller=SAM, key="k") == first
    assert [told.type for told in product.told()] == ["product.created", "product.stock_changed"]


async def test_sku_is_nobody_elses(product):
    await product.ask("create", NEW, caller=SAM)
    with pytest.raises(Conflict) as refused:
        await product.ask("create", NEW, caller=SAM)
    assert refused.value.code == "sku-taken"
    assert len((await product.ask("list", {})).items) == 1


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("sku", "a b"),
        ("sku", ""),
        ("name", ""),
        ("price_minor", -1),
        ("price_minor", True),
        ("price_minor", 1.5),
        ("currency", "eur"),
        ("on_hand", -1),
        ("extra", 1),
    ],
)
async def test_product_out_of_its_limits_is_refused(product, member, value):
    with pytest.raises(InvalidInput):
        await product.ask("create", {**NEW, member: value}, caller=SAM)


@pytest.mark.parametrize("name", ["create", "restock", "hold", "commit-hold", "release-hold"])
async def test_changes_are_for_those_the_table_names(product, name):
    example = next(row.example for row in service.operations if row.name == name)
    with pytest.raises(Unauthenticated):
        await product.ask(name, example)
    with pytest.raises(Forbidden):
        await product.ask(name, example, caller=ALICE)
    with pytest.raises(Forbidden):
        await product.ask(name, example, caller=Caller("service", "user"))
