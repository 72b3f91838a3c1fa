"""Order's table. Read this first."""

from __future__ import annotations

from mesh.framework import (
    USER,
    Agreement,
    Deferred,
    Invariant,
    Listener,
    Operation,
    Seed,
    Service,
    Tells,
    roles,
)
from mesh.services.order import (
    actions,
    fulfilling,
    listeners,
    messages,
    model,
    paying,
    placing,
    planting,
    promises,
    store,
)

LAMP = "prd_00000000-0000-7000-8000-000000000001"
RESERVED, UNWANTED, PAID, SHIPPED, DELIVERED = (
    messages.OrderRef(f"ord_00000000-0000-7000-8000-00000000000{n}") for n in range(1, 6)
)
"""Orders of the seed, each where an example finds it."""

service = Service(
    name="order",
    summary="Takes orders, holds their stock, takes payment.",
    operations=(
        Operation(
            "create",
            "POST /orders",
            placing.create,
            messages.PlaceOrder,
            messages.OrderView,
            allow=roles("customer"),
            example=messages.PlaceOrder(
                lines=[messages.OrderLine(LAMP, 1)],
                ship_to=messages.Address(
                    name="Alice Adams",
                    line1="1 Harbour Street",
                    city="Hamburg",
                    postcode="20457",
                    country="DE",
                ),
            ),
            status=201,
            key="required",
            may_be_accepted=True,
        ),
        Operation(
            "list",
            "GET /orders",
            actions.list_orders,
            messages.ListOrders,
            messages.OrderPage,
            allow=USER,
            example=messages.ListOrders(),
        ),
        Operation(
            "get",
            "GET /orders/{id}",
            actions.get,
            messages.OrderRef,
            messages.OrderView,
            allow=USER,
            example=RESERVED,
        ),
        Operation(
            "history",
            "GET /orders/{id}/history",
            actions.history,
            messages.OrderRef,
            messages.History,
            allow=USER,
            example=RESERVED,
        ),
        Operation(
            "pay",
            "POST /orders/{id}/payment",
            paying.pay,
            messages.Pay,
            messages.OrderView,
            allow=USER,
            example=messages.Pay(RESERVED.id, "tok_visa"),
            key="optional",
            may_be_accepted=True,
        ),
        Operation(
            "cancel",
            "POST /orders/{id}/cancel",
            fulfilling.cancel,
            messages.Cancel,
            messages.OrderView,
            allow=USER,
            example=messages.Cancel(UNWANTED.id),
            key="optional",
        ),
        Operation(
            "ship",
            "POST /orders/{id}/shipment",
            fulfilling.ship,
            messages.Ship,
            messages.OrderView,
            allow=roles("staff"),
            example=messages.Ship(PAID.id, "DHL", "JD014600003828"),
            key="optional",
        ),
        Operation(
            "deliver",
            "POST /orders/{id}/delivery",
            fulfilling.deliver,
            messages.OrderRef,
            messages.OrderView,
            allow=roles("staff"),
            example=SHIPPED,
            key="optional",
        ),
        Operation(
            "return",
            "POST /orders/{id}/return",
            fulfilling.take_back,
            messages.Return,
            messages.OrderView,
            allow=roles("staff"),
            example=messages.Return(DELIVERED.id, "does not fit the desk"),
            key="optional",
        ),
    ),
    asks=(
        messages.HOLD,
        messages.COMMIT_HOLD,
        messages.SHIP_HOLD,
        messages.RELEASE_HOLD,
        messages.GET_HOLD,
    ),
    listeners=(
        Listener("product.stock_changed", listeners.on_stock_changed, messages.StockChanged),
        Listener("product.created", listeners.on_created, messages.ProductCreated),
        Listener("product.price_changed", listeners.on_price_changed, messages.PriceChanged),
        Listener("product.discontinued", listeners.on_discontinued, messages.Discontinued),
        Listener("product.hold_expired", listeners.on_hold_expired, messages.HoldExpired),
    ),
    tells=(Tells("order.status_changed", messages.StatusChanged, key="order_id"),),
    deferred=(
        Deferred("decide", placing.decide, messages.Owed),
        Deferred("wake", placing.wake, messages.Wake),
        Deferred("release", placing.release, messages.Owed),
        Deferred("ship-hold", fulfilling.ship_hold, messages.Owed),
        Deferred("capture", paying.capture, messages.Owed),
        Deferred("refund", paying.refund, messages.Owed),
        Deferred("expire", placing.expire, messages.Owed),
    ),
    invariants=(
        Invariant(
            "total-adds-up", "an order costs what its lines cost", promises.SUMS_HOLD, of="orders"
        ),
        Invariant(
            "money-adds-up",
            "money kept is the total of what is paid for",
            promises.MONEY_HOLDS,
            "orders",
        ),
        Invariant(
            "steps-allowed",
            "every step is in the table of moves",
            promises.STEPS_ALLOWED,
            of="history",
        ),
        Invariant(
            "history-contiguous",
            "the history is contiguous",
            promises.HISTORY_CONTIGUOUS,
            of="history",
        ),
        Invariant("steps-told", "one event was told for each step", promises.TOLD, of="history"),
        Invariant(
            "one-key-an-order", "each order is the effect of one key", promises.KEYED, of="orders"
        ),
        Invariant(
            "answered-to-owner",
            "an order's answer was given to its owner",
            promises.ANSWERED,
            of="request",
        ),
        Invariant(
            "backorders-queued",
            "who is backordered waits for each product",
            promises.QUEUE_HOLDS,
            "orders",
        ),
        Invariant(
            "nothing-stuck",
            "what is pending or paying is driven on",
            promises.DRIVEN_ON,
            of="orders",
        ),
    ),
    agreements=(
        Agreement(
            "holds-agree",
            "stock is held for an order as long as its status says so",
            promises.HOLDS_AGREE,
            of="orders",
            beside=("product",),
        ),
        Agreement(
            "held-as-ordered",
            "what is held is what was ordered",
            promises.HELD_LINES_AGREE,
            of="product.hold_lines",
            beside=("product",),
        ),
        Agreement(
            "stock-known",
            "what order knows of stock is what product told last",
            promises.STOCK_SEEN_AGREES,
            of="stock_seen",
            beside=("product",),
        ),
        Agreement(
            "none-asleep",
            "no backorder sleeps while its stock is there",
            promises.NONE_ASLEEP,
            of="backorders",
            beside=("product",),
        ),
    ),
    moves=(model.MOVES,),
    seed=Seed(messages.Seed, planting.plant),
    unsettled=store.UNSETTLED,
)
