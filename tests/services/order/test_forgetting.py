"""Somebody who was erased: nothing of theirs in the rows, in kept answers, or in the bytes of the files."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from mesh import clock
from mesh.errors import Conflict, Forbidden
from tests.services.order.conftest import ALICE, BOB, SAM
from tests.services.order.support import ADDRESS, create, left, offenders, plant, work

if TYPE_CHECKING:
    from mesh.framework import Caller

SECRETS = ("Ludmilla Wax", "77 Canary Street", "Bournemouth-on-Sea", "moved to Wax Lane")
HERS = {**ADDRESS, "name": SECRETS[0], "line1": SECRETS[1], "city": SECRETS[2]}
CUT_S = 60.0
"""The -wal is cut within a moment of quiet; far over what that takes here."""


async def erase(order, caller: Caller) -> None:
    await order.transact(lambda tx: tx.erase(caller.id))


def found_in_files(folder) -> list[str]:
    return [
        f"{secret} in {path.name}"
        for path in folder.rglob("*")
        if path.is_file()
        for secret in SECRETS
        if secret.encode() in path.read_bytes()
    ]


async def test_nothing_is_left_in_the_files_of_who_was_erased(order, product, tmp_path):
    await plant(product, 1000)
    chance = random.Random(1)
    callers = [ALICE, BOB] * 40
    chance.shuffle(callers)
    for n, caller in enumerate(callers):
        address = HERS if caller is ALICE else {**ADDRESS, "line1": "x" * chance.randint(1, 90)}
        await create(order, 1, caller=caller, key=f"k{n}", ship_to=address)
    mine = (await order.ask("list", {"page_size": 100}, caller=ALICE)).items
    for one in mine[:5]:
        body = {"id": one.id, "reason": SECRETS[3]}
        await order.ask("cancel", body, caller=ALICE, key=f"c{one.id}")
    await order.ask("cancel", {"id": mine[5].id, "reason": SECRETS[3]}, caller=SAM, key="s")
    assert len({line.split(" in ")[0] for line in found_in_files(tmp_path)}) == len(SECRETS)

    await erase(order, ALICE)
    assert await work(order, only={"abandon"}) == ["abandon"]
    until_s = clock.monotonic_s() + CUT_S
    while found := found_in_files(tmp_path):
        assert clock.monotonic_s() < until_s, found
        await asyncio.sleep(0.02)
    theirs = (await order.ask("list", {"page_size": 100}, caller=BOB)).items
    assert all(one.ship_to is not None for one in theirs)
    assert offenders(order) == []


async def test_open_orders_of_who_was_erased_are_cancelled_and_the_rest_stays(order, product):
    await plant(product, 10)
    paid, kept = [await create(order, 1, key=f"{n}") for n in range(2)]
    for one in (paid, kept):
        await order.ask("pay", {"id": one.id, "payment_token": "tok_visa"}, caller=ALICE)
    await order.ask("ship", {"id": kept.id, "tracking": "T1"}, caller=SAM)
    await erase(order, ALICE)
    await work(order)
    shown = await order.ask("get", {"id": paid.id}, caller=SAM)
    assert (shown.status, shown.ship_to) == ("cancelled", None)
    shown = await order.ask("get", {"id": kept.id}, caller=SAM)
    assert (shown.status, shown.ship_to, shown.tracking) == ("shipped", None, None)
    assert left(order) == ["expire"]
    assert offenders(order) == offenders(product) == []


async def test_no_order_is_taken_or_shipped_for_who_was_erased(order, product):
    await plant(product, 10)
    placed = await create(order, 1, key="k")
    await order.ask("pay", {"id": placed.id, "payment_token": "tok_visa"}, caller=ALICE)
    await erase(order, ALICE)
    with pytest.raises(Conflict) as refused:
        await order.ask("ship", {"id": placed.id}, caller=SAM)
    assert refused.value.code == "address-forgotten"
    with pytest.raises(Forbidden):
        await create(order, 1, key="late")
