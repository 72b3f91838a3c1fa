"""Product's table. Read this first."""

from __future__ import annotations

from mesh.framework import (
    ANYONE,
    Deferred,
    Invariant,
    Operation,
    Seed,
    Service,
    Tells,
    roles,
    services,
)
from mesh.services.product import actions, messages, promises

LAMP = "prd_00000000-0000-7000-8000-000000000001"
ORDER = "ord_00000000-0000-7000-8000-000000000001"

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
            actions.hold,
            messages.Hold,
            messages.HoldView,
            allow=services("order"),
            example=messages.Hold(ORDER, [messages.Line(LAMP, 1)]),
        ),
        Operation(
            "commit-hold",
            "POST /holds/{order_id}/commit",
            actions.commit_hold,
            messages.HoldRef,
            messages.HoldView,
            allow=services("order"),
            example=messages.HoldRef(ORDER),
        ),
        Operation(
            "release-hold",
            "DELETE /holds/{order_id}",
            actions.release_hold,
            messages.HoldRef,
            type(None),
            allow=services("order"),
            example=messages.HoldRef(ORDER),
            status=204,
        ),
    ),
    tells=(
        Tells("product.created", messages.Created, key="product_id"),
        Tells("product.stock_changed", messages.StockChanged, key="product_id"),
        Tells("product.hold_expired", messages.HoldExpired, key="order_id"),
    ),
    deferred=(Deferred("expire-hold", actions.expire_hold, messages.ExpireHold),),
    invariants=(
        Invariant(
            "V1", "nothing is oversold: 0 ≤ reserved ≤ on_hand", promises.NO_OVERSELL, "products"
        ),
        Invariant(
            "V2", "stock is the sum of its ledger and of open holds", promises.CONSERVED, "products"
        ),
        Invariant("V5", "one event was told for each ledger row", promises.TOLD, of="ledger"),
    ),
    seed=Seed(messages.Seed, actions.plant),
)
