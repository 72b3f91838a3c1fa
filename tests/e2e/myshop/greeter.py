"""A service of one file: its table, its messages, its actions, its one table of SQL."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from mesh.framework import ANYONE, Call, Context, Listener, Operation, Service, Tells, Tx

LAMP = "prd_00000000-0000-7000-8000-000000000001"


class Greet(Struct, frozen=True, forbid_unknown_fields=True):
    """Whom to greet, and which product to praise."""

    name: Annotated[str, Meta(min_length=1, max_length=40)]
    product_id: str = LAMP


class Greeting(Struct, frozen=True):
    """What is said."""

    text: str


class ProductRef(Struct, frozen=True):
    """Which product."""

    id: str


class Product(Struct, frozen=True):
    """What is read of a product."""

    name: str
    price_minor: int
    currency: str


class StockChanged(Struct, frozen=True):
    """What is read of `product.stock_changed`."""

    product_id: str
    d_on_hand: int


class StockNoticed(Struct, frozen=True):
    """`greeter.stock_noticed`."""

    product_id: str
    delta: int


class Nothing(Struct, frozen=True, forbid_unknown_fields=True):
    """No members."""


class Seen(Struct, frozen=True):
    """Everything noticed."""

    items: list[StockNoticed]


PRODUCT = Call("product", "GET /products/{id}", ProductRef, Product)


async def greet(ctx: Context, request: Greet) -> Greeting:
    """Greet somebody and name a price."""
    product = await ctx.ask(PRODUCT, ProductRef(request.product_id))
    return Greeting(
        f"Hello {request.name}, a {product.name} costs {product.price_minor} {product.currency}."
    )


async def seen(ctx: Context, request: Nothing) -> Seen:
    """Show every change of stock that was noticed."""
    return Seen(
        ctx.read.all(StockNoticed, "SELECT product_id, delta FROM noticed ORDER BY n LIMIT 100")
    )


def on_stock_changed(tx: Tx, event: StockChanged) -> None:
    """Note it, and tell."""
    tx.execute(
        "INSERT INTO noticed (product_id, delta) VALUES (:product_id, :delta)",
        product_id=event.product_id,
        delta=event.d_on_hand,
    )
    tx.tell(StockNoticed(event.product_id, event.d_on_hand))


service = Service(
    name="greeter",
    summary="Greets, and watches the stock.",
    operations=(
        Operation(
            "greet", "POST /greetings", greet, Greet, Greeting, allow=ANYONE, example=Greet("Ada")
        ),
        Operation("seen", "GET /seen", seen, Nothing, Seen, allow=ANYONE, example=Nothing()),
    ),
    asks=(PRODUCT,),
    listeners=(Listener("product.stock_changed", on_stock_changed, StockChanged),),
    tells=(Tells("greeter.stock_noticed", StockNoticed, key="product_id"),),
)
