"""The vocabulary that crosses product's wall: inputs, answers, events told."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

PRICE_MAX = 100_000_000
STOCK_MAX = 1_000_000_000
LINES_MAX = 50
PAGE_MAX = 100

ProductId = Annotated[
    str, Meta(pattern=r"^prd_[0-9a-f-]{36}$", examples=["prd_00000000-0000-7000-8000-000000000001"])
]
OrderId = Annotated[str, Meta(pattern=r"^ord_[0-9a-f-]{36}$")]
Sku = Annotated[str, Meta(min_length=1, max_length=40, pattern=r"^[A-Za-z0-9._-]+$")]
Currency = Annotated[str, Meta(pattern=r"^[A-Z]{3}$", description="ISO 4217")]
Price = Annotated[int, Meta(ge=0, le=PRICE_MAX, description="In minor units, for example cents")]
Stock = Annotated[int, Meta(ge=0, le=STOCK_MAX)]
Quantity = Annotated[int, Meta(ge=1, le=10_000)]
Reason = Annotated[str, Meta(min_length=1, max_length=64)]


class CreateProduct(Struct, frozen=True, forbid_unknown_fields=True):
    """A new product, with the stock it begins with."""

    sku: Sku
    name: Annotated[str, Meta(min_length=1, max_length=120)]
    price_minor: Price
    currency: Currency
    description: Annotated[str, Meta(max_length=2000)] = ""
    on_hand: Stock = 0
    low_water: Stock = 0


class GetProduct(Struct, frozen=True, forbid_unknown_fields=True):
    """Which product."""

    id: ProductId


class ListProducts(Struct, frozen=True, forbid_unknown_fields=True):
    """A page of the catalogue, ordered by id; `q` is looked for in SKU and name."""

    q: Annotated[str, Meta(max_length=80)] | None = None
    status: Literal["active", "discontinued"] | None = None
    in_stock: bool | None = None
    page_size: Annotated[int, Meta(ge=1, le=PAGE_MAX)] = 20
    page_token: Annotated[str, Meta(max_length=64)] | None = None


class ProductView(Struct, frozen=True):
    """A product. `version` is its ETag; `stock_version` counts its ledger rows."""

    id: str
    sku: str
    name: str
    description: str
    price_minor: int
    currency: str
    on_hand: int
    reserved: int
    available: int
    low_water: int
    status: Literal["active", "discontinued"]
    version: int
    stock_version: int


class ProductPage(Struct, frozen=True):
    """One page; `next_page_token` is null on the last."""

    items: list[ProductView]
    next_page_token: str | None


class Restock(Struct, frozen=True, forbid_unknown_fields=True):
    """A change of what is on hand: deliveries up, losses down."""

    id: ProductId
    delta: Annotated[int, Meta(ge=-STOCK_MAX, le=STOCK_MAX)]
    reason: Reason


class Line(Struct, frozen=True, forbid_unknown_fields=True):
    """So much of one product."""

    product_id: ProductId
    quantity: Quantity


Lines = Annotated[list[Line], Meta(min_length=1, max_length=LINES_MAX)]


class Quote(Struct, frozen=True, forbid_unknown_fields=True):
    """What somebody would like to order."""

    lines: Lines


class QuotedLine(Struct, frozen=True):
    """What product says of one line right now."""

    product_id: str
    sku: str
    name: str
    quantity: int
    unit_price_minor: int
    currency: str
    available: int
    stock_version: int


class QuoteView(Struct, frozen=True):
    """Availability and prices; nothing is held by asking."""

    lines: list[QuotedLine]
    enough: bool


class Hold(Struct, frozen=True, forbid_unknown_fields=True):
    """Stock to be held for one order: all of it or nothing."""

    order_id: OrderId
    lines: Lines


class HoldRef(Struct, frozen=True, forbid_unknown_fields=True):
    """Which hold."""

    order_id: OrderId


class HoldView(Struct, frozen=True):
    """A hold. `version` counts how often this order's stock was held anew."""

    order_id: str
    state: Literal["held", "committed", "released", "expired"]
    version: int
    expires_at_ms: int
    lines: list[QuotedLine]


class StockChanged(Struct, frozen=True):
    """`product.stock_changed`: the stock after one ledger row, and that row."""

    product_id: str
    sku: str
    on_hand: int
    reserved: int
    available: int
    d_on_hand: int
    d_reserved: int
    reason: str
    ref: str
    stock_version: int


class Created(Struct, frozen=True):
    """`product.created`."""

    product_id: str
    sku: str
    name: str
    price_minor: int
    currency: str
    version: int


class HoldExpired(Struct, frozen=True):
    """`product.hold_expired`: the hold of that version gave its stock back."""

    order_id: str
    version: int


class ExpireHold(Struct, frozen=True):
    """Deferred: the date of a hold has come."""

    order_id: str


class SeedProduct(Struct, frozen=True, forbid_unknown_fields=True):
    """One product of the configuration's seed."""

    id: ProductId
    sku: Sku
    name: str
    price_minor: Price
    currency: Currency
    on_hand: Stock
    description: str = ""
    low_water: Stock = 0


class Seed(Struct, frozen=True, forbid_unknown_fields=True):
    """The configuration's `seed:` of product."""

    products: list[SeedProduct] = []
