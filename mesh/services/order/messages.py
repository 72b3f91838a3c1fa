"""The vocabulary that crosses order's wall: inputs, answers, events told, and what it reads of others."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from mesh.framework import PERSONAL, Call, Policy

LINES_MAX = 50
PAGE_MAX = 100

OrderId = Annotated[
    str,
    Meta(
        pattern=r"^ord_[0-9a-f-]{36}$(?!\n)", examples=["ord_00000000-0000-7000-8000-000000000001"]
    ),
]
ProductId = Annotated[str, Meta(pattern=r"^prd_[0-9a-f-]{36}$(?!\n)")]
Reason = Annotated[str, Meta(min_length=1, max_length=64)]
Text = Annotated[str, Meta(min_length=1, max_length=120)]
Personal = Annotated[str, PERSONAL, Meta(min_length=1, max_length=120)]
Status = Literal[
    "pending",
    "backordered",
    "reserved",
    "paying",
    "paid",
    "shipped",
    "delivered",
    "rejected",
    "expired",
    "cancelled",
    "returned",
]
OnShortage = Literal["backorder", "reject"]


class OrderLine(Struct, frozen=True, forbid_unknown_fields=True):
    """So much of one product. The price is product's to say."""

    product_id: ProductId
    quantity: Annotated[int, Meta(ge=1, le=1000)]


class Address(Struct, frozen=True, forbid_unknown_fields=True):
    """Where to ship to."""

    name: Personal
    line1: Personal
    city: Personal
    postcode: Annotated[str, PERSONAL, Meta(min_length=1, max_length=20)]
    country: Annotated[
        str, PERSONAL, Meta(pattern=r"^[A-Z]{2}$(?!\n)", description="ISO 3166-1 alpha-2")
    ]
    line2: Annotated[str, PERSONAL, Meta(max_length=120)] | None = None
    region: Annotated[str, PERSONAL, Meta(max_length=120)] | None = None


class PlaceOrder(Struct, frozen=True, forbid_unknown_fields=True):
    """An order. With `expected_total_minor` it is rejected if it would cost more."""

    lines: Annotated[list[OrderLine], Meta(min_length=1, max_length=LINES_MAX)]
    ship_to: Address
    on_shortage: OnShortage = "backorder"
    expected_total_minor: Annotated[int, Meta(ge=0, le=10**12)] | None = None


class OrderRef(Struct, frozen=True, forbid_unknown_fields=True):
    """Which order."""

    id: OrderId


class ListOrders(Struct, frozen=True, forbid_unknown_fields=True):
    """A page of orders, the oldest first: one's own, or everybody's for staff."""

    status: Status | None = None
    user_id: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    page_size: Annotated[int, Meta(ge=1, le=PAGE_MAX)] = 20
    page_token: Annotated[str, Meta(max_length=64)] | None = None


class Pay(Struct, frozen=True, forbid_unknown_fields=True):
    """Pay an order with a token of the payment gateway."""

    id: OrderId
    payment_token: Annotated[
        Literal["tok_visa", "tok_declined", "tok_slow"],
        Meta(description="tok_visa succeeds, tok_declined is declined, tok_slow takes a second"),
    ]


class Cancel(Struct, frozen=True, forbid_unknown_fields=True):
    """Cancel an order that has not been shipped."""

    id: OrderId
    reason: Reason | None = None


class Ship(Struct, frozen=True, forbid_unknown_fields=True):
    """A paid order goes out."""

    id: OrderId
    carrier: Annotated[str, Meta(min_length=1, max_length=40)] | None = None
    tracking: Annotated[str, Meta(min_length=1, max_length=64)] | None = None


class Return(Struct, frozen=True, forbid_unknown_fields=True):
    """What was shipped has come back."""

    id: OrderId
    reason: Reason | None = None


class LineView(Struct, frozen=True):
    """One line; SKU, name and price are null until product has said them."""

    product_id: str
    sku: str | None
    name: str | None
    quantity: int
    unit_price_minor: int | None


class OrderView(Struct, frozen=True):
    """An order; sums are null until product has said the prices, `ship_to` once it was forgotten."""

    id: str
    user_id: str
    status: Status
    reason: str
    lines: list[LineView]
    ship_to: Address | None
    carrier: str | None
    tracking: str | None
    on_shortage: OnShortage
    subtotal_minor: int | None
    shipping_minor: int | None
    total_minor: int | None
    currency: str | None
    held_until: str | None
    created_at: str
    version: int


class OrderPage(Struct, frozen=True):
    """One page; `next_page_token` is null on the last."""

    items: list[OrderView]
    next_page_token: str | None


class Step(Struct, frozen=True):
    """One change of status. `cause` is the event or request it came from."""

    version: int
    old: str
    new: str
    reason: str
    actor: str
    cause: str
    at: str


class History(Struct, frozen=True):
    """How an order came to be where it is."""

    items: list[Step]


class ToldLine(Struct, frozen=True):
    """A line as events tell it."""

    product_id: str
    quantity: int


class StatusChanged(Struct, frozen=True):
    """`order.status_changed`: one for each step of the history."""

    order_id: str
    user_id: str
    old: str
    new: str
    version: int
    reason: str
    total_minor: int | None
    currency: str | None
    lines: list[ToldLine]


class Owed(Struct, frozen=True):
    """Deferred: something is still to be done for an order."""

    order_id: str


class Expire(Struct, frozen=True):
    """Deferred: the time to pay for an order is over."""


class Wake(Struct, frozen=True):
    """Deferred: stock of a product came free; try the backorders beyond `after` that wait for it."""

    product_id: str
    after: str = ""


class Abandon(Struct, frozen=True):
    """Deferred: a person was erased; cancel what they had open."""

    user_id: str


class HoldLine(Struct, frozen=True):
    """A line as product is asked for it."""

    product_id: str
    quantity: int


class Hold(Struct, frozen=True):
    """What product is asked to hold."""

    order_id: str
    lines: list[HoldLine]


class HoldRef(Struct, frozen=True):
    """Which hold."""

    order_id: str


class HeldLine(Struct, frozen=True):
    """What is read of a line that product answers with."""

    product_id: str
    sku: str
    name: str
    unit_price_minor: int
    currency: str


class Held(Struct, frozen=True):
    """What is read of product's answer to a hold."""

    version: int
    expires_at_ms: int
    lines: list[HeldLine]


class Shortage(Struct, frozen=True):
    """What is read of one line that is short."""

    product_id: str
    available: int


class Short(Struct, frozen=True):
    """What is read of product's refusal `insufficient-stock`."""

    shortages: list[Shortage]
    versions: dict[str, int]
    lines: list[HeldLine]


class CommittedHold(Struct, frozen=True):
    """What is read of product's answer to a commit."""

    version: int


class HoldSeen(Struct, frozen=True):
    """What is read of a hold that product shows."""

    state: str
    version: int
    expires_at_ms: int


class StockChanged(Struct, frozen=True):
    """What is read of `product.stock_changed`."""

    product_id: str
    available: int
    d_on_hand: int
    d_reserved: int
    reason: str
    ref: str
    stock_version: int


class HoldExpired(Struct, frozen=True):
    """What is read of `product.hold_expired`."""

    order_id: str
    version: int


class ProductCreated(Struct, frozen=True):
    """What is read of `product.created`."""

    product_id: str
    price_minor: int
    version: int


class PriceChanged(Struct, frozen=True):
    """What is read of `product.price_changed`."""

    product_id: str
    price_minor: int
    version: int


class Discontinued(Struct, frozen=True):
    """What is read of `product.discontinued`."""

    product_id: str
    version: int


class UserErased(Struct, frozen=True):
    """What is read of `user.erased`."""

    user_id: str


HOLD_S = 1.5
"""A decided order is worth most of the two seconds that a caller waits; without it, it is pending."""

HOLD = Call("product", "PUT /holds/{order_id}", Hold, Held, Policy(timeout_s=HOLD_S))
COMMIT_HOLD = Call(
    "product", "POST /holds/{order_id}/commit", HoldRef, CommittedHold, repeatable=True
)
SHIP_HOLD = Call("product", "POST /holds/{order_id}/ship", HoldRef, CommittedHold, repeatable=True)
RELEASE_HOLD = Call("product", "DELETE /holds/{order_id}", HoldRef, type(None))
GET_HOLD = Call("product", "GET /holds/{order_id}", HoldRef, HoldSeen)
