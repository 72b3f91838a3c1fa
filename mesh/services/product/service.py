"""Product's table. Read this first."""

from __future__ import annotations

from mesh.framework import (
    ANYONE,
    Allow,
    Deferred,
    Invariant,
    Operation,
    Seed,
    Service,
    Tells,
    roles,
    services,
)
from mesh.services.product import actions, holding, messages, promises

LAMP = "prd_00000000-0000-7000-8000-000000000001"
MUG = "prd_00000000-0000-7000-8000-000000000002"
RADIO = "prd_00000000-0000-7000-8000-000000000007"

RESERVED = "ord_00000000-0000-7000-8000-000000000001"
SHIPPED = "ord_00000000-0000-7000-8000-000000000004"
NOBODYS = "ord_00000000-0000-7000-8000-000000000099"
"""Orders of the seed whose holds the examples ask about; of the last one there is none."""

service = Service(
    name="product",
    summary="What there is, what it costs and how much is free.",
    operations=(
        Operation(
            "list",
            "GET /products",
            actions.list_products,
            messages.ListProducts,
            messages.ProductPage,
            allow=ANYONE,
            example=messages.ListProducts(),
        ),
        Operation(
            "get",
            "GET /products/{id}",
            actions.get,
            messages.GetProduct,
            messages.ProductView,
            allow=ANYONE,
            example=messages.GetProduct(LAMP),
        ),
        Operation(
            "create",
            "POST /products",
            actions.create,
            messages.CreateProduct,
            messages.ProductView,
            allow=roles("staff"),
            example=messages.CreateProduct(
                sku="KETTLE-1", name="Kettle", price_minor=3900, currency="EUR", on_hand=20
            ),
            status=201,
            key="optional",
        ),
        Operation(
            "update",
            "PATCH /products/{id}",
            actions.update,
            messages.UpdateProduct,
            messages.ProductView,
            allow=roles("staff"),
            example=messages.UpdateProduct(LAMP, description="Steel, warm light, two metres"),
            key="optional",
            match=True,
        ),
        Operation(
            "discontinue",
            "POST /products/{id}/discontinue",
            actions.discontinue,
            messages.DiscontinueProduct,
            messages.ProductView,
            allow=roles("staff"),
            example=messages.DiscontinueProduct(RADIO),
            key="optional",
            match=True,
        ),
        Operation(
            "restock",
            "POST /products/{id}/stock-adjustments",
            actions.restock,
            messages.Restock,
            messages.ProductView,
            allow=roles("staff"),
            example=messages.Restock(LAMP, delta=10, reason="delivery"),
            status=201,
            key="optional",
        ),
        Operation(
            "ledger",
            "GET /products/{id}/ledger",
            actions.ledger,
            messages.ListLedger,
            messages.LedgerPage,
            allow=roles("staff"),
            example=messages.ListLedger(LAMP),
        ),
        Operation(
            "explain",
            "GET /products/{id}/explain",
            actions.explain,
            messages.GetProduct,
            messages.Explanation,
            allow=Allow(roles=("staff",), operator=True),
            example=messages.GetProduct(MUG),
        ),
        Operation(
            "quote",
            "POST /availability",
            actions.quote,
            messages.Quote,
            messages.QuoteView,
            allow=ANYONE,
            example=messages.Quote([messages.Line(LAMP, 2)]),
        ),
        Operation(
            "hold",
            "PUT /holds/{order_id}",
            holding.hold,
            messages.Hold,
            messages.HoldView,
            allow=services("order"),
            example=messages.Hold(RESERVED, [messages.Line(MUG, 2)]),
        ),
        Operation(
            "get-hold",
            "GET /holds/{order_id}",
            holding.look,
            messages.HoldRef,
            messages.HoldView,
            allow=Allow(roles=("staff",), services=("order",)),
            example=messages.HoldRef(RESERVED),
        ),
        Operation(
            "commit-hold",
            "POST /holds/{order_id}/commit",
            holding.commit_hold,
            messages.HoldRef,
            messages.HoldView,
            allow=services("order"),
            example=messages.HoldRef(RESERVED),
        ),
        Operation(
            "ship-hold",
            "POST /holds/{order_id}/ship",
            holding.ship_hold,
            messages.HoldRef,
            messages.HoldView,
            allow=services("order"),
            example=messages.HoldRef(SHIPPED),
        ),
        Operation(
            "release-hold",
            "DELETE /holds/{order_id}",
            holding.release_hold,
            messages.HoldRef,
            type(None),
            allow=services("order"),
            example=messages.HoldRef(NOBODYS),
            status=204,
        ),
    ),
    tells=(
        Tells("product.created", messages.Created, key="product_id"),
        Tells("product.updated", messages.Updated, key="product_id"),
        Tells("product.price_changed", messages.PriceChanged, key="product_id"),
        Tells("product.discontinued", messages.Discontinued, key="product_id"),
        Tells("product.stock_changed", messages.StockChanged, key="product_id"),
        Tells("product.out_of_stock", messages.OutOfStock, key="product_id"),
        Tells("product.back_in_stock", messages.BackInStock, key="product_id"),
        Tells("product.low_stock", messages.LowStock, key="product_id"),
        Tells("product.hold_expired", messages.HoldExpired, key="order_id"),
    ),
    deferred=(Deferred("expire-holds", holding.expire_holds, messages.ExpireHolds),),
    invariants=(
        Invariant(
            "no-oversell",
            "nothing is oversold: 0 ≤ reserved ≤ on_hand",
            promises.NO_OVERSELL,
            "products",
        ),
        Invariant(
            "stock-adds-up",
            "stock is the sum of its ledger and of open holds",
            promises.CONSERVED,
            "products",
        ),
        Invariant(
            "hold-is-one",
            "what is said of a hold is the same for each of its lines",
            promises.HOLD_IS_ONE,
            of="hold_lines",
        ),
        Invariant(
            "holds-end",
            "whatever is held and not paid is looked at when its time is over",
            promises.HOLDS_END,
            of="hold_lines",
        ),
        Invariant(
            "changes-told", "one event was told for each ledger row", promises.TOLD, of="ledger"
        ),
    ),
    seed=Seed(messages.Seed, actions.plant),
)
