"""A process that dies at any await: the same key sent again finds one order, one hold, one payment."""

from __future__ import annotations

import pytest

from mesh.errors import InvalidInput
from mesh.framework import idempotency
from mesh.services.order.model import DRIVE_AFTER_S
from tests.services.order.conftest import ALICE, BOB
from tests.services.order.support import create, left, offenders, plant, work

STEPS_MAX = 40
"""Far more awaits than any of these requests has."""


class Died(BaseException):
    """The process is gone: no handler of errors sees this."""


class Mortal:
    """A room whose process dies at its n-th step: before and after each write and each question."""

    def __init__(self, room, at: int) -> None:
        self.room = room
        self.at = at
        self.steps = 0

    def __enter__(self):
        wires = self.room.wires
        self._database, self._client = wires.database, wires.client
        wires.database, wires.client = _Database(self, wires.database), _Client(self, wires.client)
        return self

    def __exit__(self, *_):
        self.room.wires.database, self.room.wires.client = self._database, self._client
        self.room._running = idempotency.Running()

    def step(self) -> None:
        self.steps += 1
        if self.steps == self.at:
            raise Died


class _Database:
    def __init__(self, mortal: Mortal, inner) -> None:
        self._mortal, self._inner = mortal, inner

    async def write(self, fn, *args, **kwargs):
        self._mortal.step()
        result = await self._inner.write(fn, *args, **kwargs)
        self._mortal.step()
        return result

    def __getattr__(self, name):
        return getattr(self._inner, name)


class _Client:
    def __init__(self, mortal: Mortal, inner) -> None:
        self._mortal, self._inner = mortal, inner

    async def ask(self, call, request, envelope):
        self._mortal.step()
        try:
            return await self._inner.ask(call, request, envelope)
        finally:
            self._mortal.step()


async def deaths(room, ask):
    """Let the process die at each step of `ask(n)` in turn; yields after each death."""
    for at in range(1, STEPS_MAX):
        with Mortal(room, at) as mortal:
            try:
                await ask(at)
            except Died:
                pass
            else:
                assert mortal.steps == at - 1
                return
        yield at
    pytest.fail(f"more than {STEPS_MAX} steps")


def count(room, sql: str, **params) -> int:
    return room.database.read.one(int, sql, **params) or 0


@pytest.mark.parametrize(
    ("stock", "on_shortage", "away", "status"),
    [
        (100, "backorder", False, "reserved"),
        (0, "backorder", False, "backordered"),
        (0, "reject", False, "rejected"),
        (100, "backorder", True, "pending"),
    ],
)
async def test_create_makes_one_order_when_its_process_dies_at_any_await(
    order, product, stock, on_shortage, away, status
):
    await plant(product, stock)
    product.away = away
    died = 0
    ids = set()

    async def ask(n):
        return await create(order, 1, key=f"k{n}", on_shortage=on_shortage)

    async for at in deaths(order, ask):
        died += 1
        placed = await ask(at)
        assert placed.status == status
        ids.add(placed.id)
        held = count(product, "SELECT count(*) FROM holds WHERE order_id = :id", id=placed.id)
        assert held == (status == "reserved")
        assert await ask(at) == placed
        with pytest.raises(InvalidInput) as refused:
            await create(order, 2, key=f"k{at}", on_shortage=on_shortage)
        assert refused.value.code == "idempotency-key-reused"
        ids.add((await create(order, 1, caller=BOB, key=f"k{at}")).id)
    assert died >= (4 if away else 6)
    found = set(order.database.read.all(str, "SELECT id FROM orders"))
    assert len(found) == 2 * died + 1
    assert ids < found, "the one over is of the request that nobody killed"
    assert offenders(order) == offenders(product) == []


@pytest.mark.parametrize("driven_on", [False, True], ids=["at once", "after the work it left"])
@pytest.mark.parametrize(
    ("token", "status", "payments"),
    [("tok_visa", "paid", ["succeeded"]), ("tok_declined", "reserved", ["declined"])],
)
async def test_pay_takes_the_money_once_when_its_process_dies_at_any_await(
    order, product, wall, token, status, payments, driven_on
):
    await plant(product, 100)
    placed = [await create(order, 1, key=f"k{n}") for n in range(STEPS_MAX)]
    died = 0

    async def ask(n):
        body = {"id": placed[n].id, "payment_token": token}
        return await order.ask("pay", body, caller=ALICE, key=f"p{n}")

    async for at in deaths(order, ask):
        died += 1
        if driven_on:
            wall.forward(DRIVE_AFTER_S)
            await work(order)
        shown = await ask(at)
        assert shown.status == status
        found = order.database.read.all(
            str, "SELECT state FROM payments WHERE order_id = :id", id=shown.id
        )
        assert found == payments
        assert await ask(at) == shown
    assert died >= 6
    assert "capture" not in left(order)
    assert offenders(order) == offenders(product) == []


async def test_cancel_gives_back_once_when_its_process_dies_at_any_await(order, product):
    await plant(product, 100)
    placed = [await create(order, 1, key=f"k{n}") for n in range(STEPS_MAX)]
    died = 0

    async def ask(n):
        return await order.ask("cancel", {"id": placed[n].id}, caller=ALICE, key=f"c{n}")

    async for at in deaths(order, ask):
        died += 1
        shown = await ask(at)
        assert (shown.status, shown.version) == ("cancelled", 3)
        assert await ask(at) == shown
    assert died == 2
    await work(order)
    assert offenders(order) == offenders(product) == []
