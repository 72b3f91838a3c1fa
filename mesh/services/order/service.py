"""Order's table. Read this first."""

from __future__ import annotations

from mesh.framework import (
    OWNER,
    USER,
    Agreement,
    Allow,
    Deferred,
    Invariant,
    Listener,
    Operation,
    Seed,
    Service,
    Tells,
    owner_or,
    roles,
)
from mesh.services.order import (
    actions,
    explaining,
    forgetting,
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
            allow=owner_or("staff"),
            example=RESERVED,
        ),
        Operation(
            "history",
            "GET /orders/{id}/history",
            actions.history,
            messages.OrderRef,
            messages.History,
            allow=owner_or("staff"),
            example=RESERVED,
        ),
        Operation(
            "explain",
            "GET /orders/{id}/explain",
            explaining.explain,
            messages.OrderRef,
            explaining.Explanation,
            allow=Allow(owner=True, roles=("staff",), operator=True),
            example=RESERVED,
        ),
        Operation(
            "pay",
            "POST /orders/{id}/payment",
            paying.pay,
            messages.Pay,
            messages.OrderView,
            allow=OWNER,
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
            allow=owner_or("staff"),
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
        Listener("user.erased", listeners.on_user_erased, messages.UserErased),
    ),
    tells=(Tells("order.status_changed", messages.StatusChanged, key="order_id"),),
    deferred=(
        Deferred("decide", placing.decide, messages.Owed),
        Deferred("wake", placing.wake, messages.Wake),
        Deferred("release", placing.release, messages.Owed),
        Deferred("abandon", forgetting.abandon, messages.Abandon),
        Deferred("ship-hold", fulfilling.ship_hold, messages.Owed),
        Deferred("capture", paying.capture, messages.Owed),
        Deferred("refund", paying.refund, messages.Owed),
        Deferred("expire", placing.expire, messages.Owed),
    ),
    invariants=(
        Invariant("V4", "an order costs what its lines cost", promises.SUMS_HOLD, of="orders"),
        Invariant(
            "V4", "money kept is the total of what is paid for", promises.MONEY_HOLDS, "orders"
        ),
        Invariant(
            "V6", "every step is in the table of moves", promises.STEPS_ALLOWED, of="history"
        ),
        Invariant("V6", "the history is contiguous", promises.HISTORY_CONTIGUOUS, of="history"),
        Invariant("V6", "one event was told for each step", promises.TOLD, of="history"),
        Invariant("V7", "each order is the effect of one key", promises.KEYED, of="orders"),
        Invariant(
            "V8", "an order's answer was given to its owner", promises.ANSWERED, of="request"
        ),
        Invariant(
            "V9", "who is backordered waits for each product", promises.QUEUE_HOLDS, "orders"
        ),
        Invariant("V9", "what is pending or paying is driven on", promises.DRIVEN_ON, of="orders"),
    ),
    agreements=(
        Agreement(
            "V3",
            "stock is held for an order as long as its status says so",
            promises.HOLDS_AGREE,
            of="orders",
            beside=("product",),
        ),
        Agreement(
            "V3",
            "what is held is what was ordered",
            promises.HELD_LINES_AGREE,
            of="product.hold_lines",
            beside=("product",),
        ),
        Agreement(
            "V5",
            "what order knows of stock is what product told last",
            promises.STOCK_SEEN_AGREES,
            of="stock_seen",
            beside=("product",),
        ),
        Agreement(
            "V9",
            "no backorder sleeps while its stock is there",
            promises.NONE_ASLEEP,
            of="backorders",
            beside=("product",),
        ),
    ),
    moves=(model.MOVES,),
    seed=Seed(planting.Seed, planting.plant),
    unsettled=store.UNSETTLED,
)
