"""Order's rules: the table of moves and pure functions, no await, no SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from mesh.errors import Broken, Conflict, InvalidInput
from mesh.framework import Move, Moves
from mesh.services.order.messages import LineView

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mesh.services.order.messages import HeldLine, OrderLine, Short
    from mesh.services.order.replica import SeenRow

SHIPPING_MINOR = 490
SHIPPING_FREE_FROM_MINOR = 5000

QUANTITY_MAX = 10_000
"""Of one product in an order: what product takes in a line."""

DRIVE_AFTER_S = 5.0
"""`pending` and `paying` orders are driven on after this, should nobody else have done it."""

ATTEMPTS_MAX = 3
"""Payments that may be declined before the order is cancelled."""

SEED_HELD_MS = 365 * 24 * 3600 * 1000
"""How long a seeded order waits for its payment: long enough to be tried at leisure."""

OWNER_OR_STAFF = ("owner", "staff")

MOVES = Moves(
    "order",
    (
        Move("", "create", "pending", ("decide",), by=("customer",)),
        Move("pending", "held", "reserved", ("expire",)),
        Move("pending", "short", "backordered"),
        Move("pending", "refused", "rejected", ("release",)),
        Move("pending", "cancel", "cancelled", ("release",), by=OWNER_OR_STAFF),
        Move("backordered", "held", "reserved", ("expire",)),
        Move("backordered", "refused", "cancelled", ("release",)),
        Move("backordered", "cancel", "cancelled", ("release",), by=OWNER_OR_STAFF),
        Move("reserved", "pay", "paying", ("capture",), by=("owner",)),
        Move("reserved", "expired", "expired", ("release",)),
        Move("reserved", "cancel", "cancelled", ("release",), by=OWNER_OR_STAFF),
        Move("paying", "captured", "paid"),
        Move("paying", "declined", "reserved", ("expire",)),
        Move("paying", "declined for good", "cancelled", ("release",)),
        Move("paying", "expired", "expired", ("release",)),
        Move("paid", "cancel", "cancelled", ("release", "refund"), by=OWNER_OR_STAFF),
        Move("paid", "ship", "shipped", ("ship-hold",), by=("staff",)),
        Move("shipped", "deliver", "delivered", by=("staff",)),
        Move("shipped", "return", "returned", ("release", "refund"), by=("staff",)),
        Move("delivered", "return", "returned", ("release", "refund"), by=("staff",)),
    ),
)
"""Guards, the 409's `allowed` list, explanations and the diagram all read it."""

DRIVEN_BY = {"pending": "decide", "paying": "capture"}
"""Work that nobody needs to do unless whoever should have done it at once did not.

It belongs to the status in which it was left and ends with it. `expire` is one look for all orders. The
rest is owed.
"""

TERMINAL = frozenset(MOVES.terminal)
_BY_CAUSE = {(row.source, row.cause): row for row in MOVES.rows}
UNDECIDED = frozenset({"pending", "backordered"})


class Sums(Struct, frozen=True):
    """What an order costs, in minor units of one currency."""

    subtotal_minor: int
    shipping_minor: int
    currency: str

    @property
    def total_minor(self) -> int:
        """Everything together."""
        return self.subtotal_minor + self.shipping_minor


def allowed(status: str) -> list[str]:
    """What a caller may do with an order in this status."""
    return [row.cause for row in MOVES.out_of(status) if row.by]


def require(status: str, verb: str) -> None:
    """Let a caller's verb through where the table has it.

    Raises: Conflict (`illegal-transition` with `order_status` and `allowed`).
    """
    if MOVES.find(status, verb) is None:
        raise Conflict(
            f"an order that is {status} cannot be asked to {verb}",
            code="illegal-transition",
            order_status=status,
            allowed=allowed(status),
        )


def move(status: str, cause: str) -> Move:
    """What this cause does.

    Raises: Broken when the table has no such move.
    """
    found = _BY_CAUSE.get((status, cause))
    if found is None:
        raise Broken(f"an order that is {status} has no move for {cause!r}")
    return found


def merged(lines: Sequence[OrderLine]) -> dict[str, int]:
    """Quantity by product, in the order of first mention.

    Raises: InvalidInput when lines of one product together are over QUANTITY_MAX.
    """
    wanted: dict[str, int] = {}
    for line in lines:
        wanted[line.product_id] = wanted.get(line.product_id, 0) + line.quantity
        if wanted[line.product_id] > QUANTITY_MAX:
            raise InvalidInput(
                f"at most {QUANTITY_MAX} of one product are sold at once", pointer="/lines"
            )
    return wanted


def sums(wanted: Mapping[str, int], quoted: Sequence[HeldLine]) -> Sums | None:
    """What the quoted lines cost; None when they are in more than one currency."""
    currencies = {line.currency for line in quoted}
    if len(currencies) != 1:
        return None
    subtotal = sum(wanted[line.product_id] * line.unit_price_minor for line in quoted)
    shipping = 0 if subtotal >= SHIPPING_FREE_FROM_MINOR else SHIPPING_MINOR
    return Sums(subtotal, shipping, currencies.pop())


def quoted(lines: Sequence[LineView], said: Sequence[HeldLine]) -> list[LineView]:
    """The lines with what product said of them."""
    by_id = {line.product_id: line for line in said}
    return [
        LineView(line.product_id, of.sku, of.name, line.quantity, of.unit_price_minor)
        if (of := by_id.get(line.product_id))
        else line
        for line in lines
    ]


def short_overtaken(answer: Short, wanted: Mapping[str, int], seen: Mapping[str, SeenRow]) -> bool:
    """Whether events already told what a "short" did not know: of stock, or that there will be none.

    Args:
        seen: the newest heard of each product.

    Such an answer must not put an order to sleep: the event that would wake it has passed.
    """
    return any(row.discontinued for row in seen.values()) or any(
        row.stock_version > answer.versions.get(line.product_id, 0)
        and row.available >= wanted[line.product_id]
        for line in answer.shortages
        if (row := seen.get(line.product_id)) is not None
    )


class Charge(Struct, frozen=True):
    """How the payment gateway answered."""

    captured: bool
    brand: str
    last4: str


def charge(token: str) -> Charge:
    """The simulated gateway: its answer depends on the token alone, so asking again is harmless."""
    return Charge(captured=token != "tok_declined", brand="visa", last4="4242")  # noqa: S105  a name


def gateway_wait_s(token: str) -> float:
    """How long the simulated gateway takes."""
    return 1.0 if token == "tok_slow" else 0.0  # noqa: S105  a name, not a secret
