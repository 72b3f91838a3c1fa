"""The vocabulary that crosses product's wall: inputs, answers, events told."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

PRICE_MAX = 100_000_000
STOCK_MAX = 1_000_000_000
LINES_MAX = 50
PAGE_MAX = 100
STOCK_VERSION_MAX = 2**53
EXPLAINED_MAX = 10
"""Holds, ledger rows and prices in an explanation: a screen's worth."""

ProductId = Annotated[
    str,
    Meta(
        pattern=r"^prd_[0-9a-f-]{36}$(?!\n)", examples=["prd_00000000-0000-7000-8000-000000000001"]
    ),
]
OrderId = Annotated[str, Meta(pattern=r"^ord_[0-9a-f-]{36}$(?!\n)")]
Sku = Annotated[str, Meta(min_length=1, max_length=40, pattern=r"^[A-Za-z0-9._-]+$(?!\n)")]
Currency = Annotated[str, Meta(pattern=r"^[A-Z]{3}$(?!\n)", description="ISO 4217")]
Price = Annotated[int, Meta(ge=0, le=PRICE_MAX, description="In minor units, for example cents")]
Stock = Annotated[int, Meta(ge=0, le=STOCK_MAX)]
Quantity = Annotated[int, Meta(ge=1, le=10_000)]
Reason = Annotated[str, Meta(min_length=1, max_length=64)]
HoldState = Literal["held", "committed", "shipped", "released", "expired"]
Name = Annotated[str, Meta(min_length=1, max_length=120)]
Description = Annotated[str, Meta(max_length=2000)]


class CreateProduct(Struct, frozen=True, forbid_unknown_fields=True):
    """A new product, with the stock it begins with."""

    sku: Sku
    name: Name
    price_minor: Price
    currency: Currency
    description: Description = ""
    on_hand: Stock = 0
    low_water: Stock = 0


class UpdateProduct(Struct, frozen=True, forbid_unknown_fields=True):
    """What is to change of a product. SKU and currency are for good."""

    id: ProductId
    name: Name | None = None
    description: Description | None = None
    price_minor: Price | None = None
    low_water: Stock | None = None


class DiscontinueProduct(Struct, frozen=True, forbid_unknown_fields=True):
    """Which product is to be sold no longer."""

    id: ProductId


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
    """A product. `version` counts changes of the catalogue, `stock_version` its ledger rows."""

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

    @property
    def etag(self) -> str:
        """Another one after each sale, of which If-Match needs but the catalogue's version."""
        return f"{self.version}.{self.stock_version}"


class ProductPage(Struct, frozen=True):
    """One page; `next_page_token` is null on the last."""

    items: list[ProductView]
    next_page_token: str | None


class Restock(Struct, frozen=True, forbid_unknown_fields=True):
    """A change of what is on hand: deliveries up, losses down."""

    id: ProductId
    delta: Annotated[int, Meta(ge=-STOCK_MAX, le=STOCK_MAX)]
    reason: Reason


class ListLedger(Struct, frozen=True, forbid_unknown_fields=True):
    """A page of a product's ledger, the newest row first."""

    id: ProductId
    page_size: Annotated[int, Meta(ge=1, le=PAGE_MAX)] = 20
    page_token: Annotated[str, Meta(pattern=r"^[0-9]{1,15}$(?!\n)")] | None = None


class LedgerEntry(Struct, frozen=True):
    """One change of stock, and what there was after it. `ref` is the order it was for."""

    stock_version: int
    d_on_hand: int
    d_reserved: int
    on_hand: int
    reserved: int
    reason: str
    ref: str
    at: str


class LedgerPage(Struct, frozen=True):
    """One page; `next_page_token` is null on the last."""

    items: list[LedgerEntry]
    next_page_token: str | None


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
    state: HoldState
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


class Updated(Struct, frozen=True):
    """`product.updated`: what the catalogue says now, and which members of it are new."""

    product_id: str
    sku: str
    name: str
    description: str
    price_minor: int
    currency: str
    low_water: int
    changed: list[str]
    version: int


class PriceChanged(Struct, frozen=True):
    """`product.price_changed`: for whom nothing but the price matters."""

    product_id: str
    sku: str
    old_price_minor: int
    price_minor: int
    currency: str
    version: int


class Discontinued(Struct, frozen=True):
    """`product.discontinued`: it is sold no longer, for good."""

    product_id: str
    sku: str
    version: int


class OutOfStock(Struct, frozen=True):
    """`product.out_of_stock`: the last one has gone."""

    product_id: str
    sku: str
    stock_version: int


class BackInStock(Struct, frozen=True):
    """`product.back_in_stock`: there is something to sell again."""

    product_id: str
    sku: str
    stock_version: int
    available: int


class LowStock(Struct, frozen=True):
    """`product.low_stock`: no more than the low-water mark is left."""

    product_id: str
    sku: str
    stock_version: int
    available: int
    low_water: int


class HoldExpired(Struct, frozen=True):
    """`product.hold_expired`: the hold of that version gave its stock back."""

    order_id: str
    version: int


class ExpireHolds(Struct, frozen=True):
    """Deferred: the date of a hold has come."""


class SeedProduct(Struct, frozen=True, forbid_unknown_fields=True):
    """One product of the configuration's seed."""

    id: ProductId
    sku: Sku
    name: Name
    price_minor: Price
    currency: Currency
    on_hand: Stock
    description: Description = ""
    low_water: Stock = 0


class SeedHold(Struct, frozen=True, forbid_unknown_fields=True):
    """What is kept for good for one order of order's seed."""

    order_id: OrderId
    lines: Lines


class Seed(Struct, frozen=True, forbid_unknown_fields=True):
    """The configuration's `seed:` of product."""

    products: list[SeedProduct] = []
    holds: list[SeedHold] = []


class StockView(Struct, frozen=True):
    """What there is of a product."""

    on_hand: int
    reserved: int
    available: int
    low_water: int
    stock_version: int


class OpenHold(Struct, frozen=True):
    """What one order holds of a product; `until` is null once it is committed."""

    order: str
    state: HoldState
    quantity: int
    until: str | None


class PriceView(Struct, frozen=True):
    """A price, and since when."""

    price_minor: int
    currency: str
    since: str


class Explanation(Struct, frozen=True):
    """A product's present: stock, who holds it, and its latest changes, the newest first."""

    id: str
    status: Literal["active", "discontinued"]
    name: str
    sku: str
    waits_for: str | None
    stock: StockView
    holds: list[OpenHold]
    more_holds: bool
    ledger: list[LedgerEntry]
    prices: list[PriceView]
