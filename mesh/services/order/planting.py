"""Planting: the configuration's orders, each brought to its status by the steps that lead there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta, Struct
from msgspec.structs import replace

from mesh.errors import Broken
from mesh.services.order import messages, model, payments, steps
from mesh.services.order.messages import LINES_MAX, Address, OrderId, ProductId, Text

if TYPE_CHECKING:
    from mesh.framework import Tx
    from mesh.services.order.store import OrderRow

ACTOR = "seed"
TOKEN = "tok_visa"  # noqa: S105  a name that the simulated gateway knows, not a secret


class SeedLine(Struct, frozen=True, forbid_unknown_fields=True):
    """One line of a seeded order, with what product would have said of it."""

    product_id: ProductId
    sku: Text
    name: Text
    quantity: Annotated[int, Meta(ge=1, le=1000)]
    unit_price_minor: Annotated[int, Meta(ge=0, le=10**8)]


class SeedOrder(Struct, frozen=True, forbid_unknown_fields=True):
    """One order of the configuration; product's seed holds its stock."""

    id: OrderId
    user_id: Text
    status: Literal["reserved", "paid", "shipped", "delivered"]
    lines: Annotated[list[SeedLine], Meta(min_length=1, max_length=LINES_MAX)]
    ship_to: Address
    currency: Annotated[str, Meta(pattern=r"^[A-Z]{3}$(?!\n)")] = "EUR"


class Seed(Struct, frozen=True, forbid_unknown_fields=True):
    """The configuration's `seed:` of order."""

    orders: list[SeedOrder] = []


def plant(tx: Tx, seed: Seed) -> None:
    """The configuration's orders, with their fixed ids."""
    for order in seed.orders:
        _plant(tx, order)


def _plant(tx: Tx, seed: SeedOrder) -> None:
    wanted = [messages.OrderLine(line.product_id, line.quantity) for line in seed.lines]
    placed = steps.begin(
        seed.id, seed.user_id, messages.PlaceOrder(wanted, seed.ship_to), tx.now_ms
    )
    order = steps.place(tx, placed, _held(placed, seed, tx.now_ms), actor=ACTOR)
    if order is None or seed.status == "reserved":
        return
    order = _paid(tx, order)
    for cause in {"shipped": ["ship"], "delivered": ["ship", "deliver"]}.get(seed.status, []):
        order = steps.step(tx, order, cause, "seeded", actor=ACTOR)


def _held(placed: steps.Placed, seed: SeedOrder, now_ms: int) -> steps.Decided:
    quoted = [
        messages.HeldLine(
            line.product_id, line.sku, line.name, line.unit_price_minor, seed.currency
        )
        for line in seed.lines
    ]
    sums = model.sums({line.product_id: line.quantity for line in placed.lines}, quoted)
    if sums is None:
        raise Broken(f"the seeded order {seed.id} costs nothing that could be told")
    priced = replace(
        placed.order,
        currency=sums.currency,
        subtotal_minor=sums.subtotal_minor,
        shipping_minor=sums.shipping_minor,
        total_minor=sums.total_minor,
        hold_version=1,
        held_until_ms=now_ms + model.SEED_HELD_MS,
    )
    return steps.Decided(priced, model.quoted(placed.lines, quoted), "held", "stock held")


def _paid(tx: Tx, order: OrderRow) -> OrderRow:
    payment_id = tx.new_id("pay")
    payments.start_capture(tx, payment_id, order, f"{order.id}/1", TOKEN)
    order = steps.step(tx, order, "pay", "payment started", actor=ACTOR)
    payments.end_capture(tx, payment_id, "succeeded", model.charge(TOKEN))
    return steps.step(tx, order, "captured", "payment captured", actor=ACTOR)
