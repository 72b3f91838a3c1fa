"""Order's rules: the table of moves and pure functions, no await, no SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from mesh.errors import Conflict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mesh.services.order.messages import HeldLine, OrderLine, Short, Status

SHIPPING_MINOR = 490
SHIPPING_FREE_FROM_MINOR = 5000

DRIVE_AFTER_S = 5.0
"""`pending` and `paying` orders are driven on after this, should nobody else have done it."""

ATTEMPTS_MAX = 3
"""Payments that may be declined before the order is cancelled."""

MOVES: Mapping[tuple[str, str], Status] = {
    ("", "placed"): "pending",
    ("pending", "held"): "reserved",
    ("pending", "short"): "backordered",
    ("pending", "refused"): "rejected",
    ("pending", "cancel"): "cancelled",
    ("backordered", "held"): "reserved",
    ("backordered", "refused"): "cancelled",
    ("backordered", "cancel"): "cancelled",
    ("reserved", "pay"): "paying",
    ("reserved", "expired"): "expired",
    ("reserved", "cancel"): "cancelled",
    ("paying", "captured"): "paid",
    ("paying", "declined"): "reserved",
    ("paying", "declined for good"): "cancelled",
    ("paying", "expired"): "expired",
    ("paid", "cancel"): "cancelled",
    ("paid", "ship"): "shipped",
    ("shipped", "deliver"): "delivered",
    ("shipped", "return"): "returned",
    ("delivered", "return"): "returned",
}
"""(status, cause) → next status. Guards, the 409's `allowed` list and the diagram all read it."""

TERMINAL = frozenset({"rejected", "expired", "cancelled", "returned"})
UNDECIDED = frozenset({"pending", "backordered"})

VERBS = ("pay", "cancel", "ship", "deliver", "return")
"""The causes that a caller may bring about."""


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
    return [verb for verb in VERBS if (status, verb) in MOVES]


def require(status: str, verb: str) -> None:
    """Let a caller's verb through where the table has it.

    Raises: Conflict (`illegal-transition` with `order_status` and `allowed`).
    """
    if (status, verb) not in MOVES:
        raise Conflict(
            f"an order that is {status} cannot be asked to {verb}",
            code="illegal-transition",
            order_status=status,
            allowed=allowed(status),
        )


def merged(lines: Sequence[OrderLine]) -> dict[str, int]:
    """Quantity by product, in the order of first mention."""
    wanted: dict[str, int] = {}
    for line in lines:
        wanted[line.product_id] = wanted.get(line.product_id, 0) + line.quantity
    return wanted


def sums(wanted: Mapping[str, int], quoted: Sequence[HeldLine]) -> Sums | None:
    """What the quoted lines cost; None when they are in more than one currency."""
    currencies = {line.currency for line in quoted}
    if len(currencies) != 1:
        return None
    subtotal = sum(wanted[line.product_id] * line.unit_price_minor for line in quoted)
    shipping = 0 if subtotal >= SHIPPING_FREE_FROM_MINOR else SHIPPING_MINOR
    return Sums(subtotal, shipping, currencies.pop())


def short_overtaken(
    answer: Short, wanted: Mapping[str, int], seen: Mapping[str, tuple[int, int]]
) -> bool:
    """Whether events already told of stock that a "short" did not know of.

    Args:
        seen: product → (stock_version, available) of the newest event heard.

    Such an answer must not put an order to sleep: the event that would wake it has passed.
    """
    return any(
        version > answer.versions.get(line.product_id, 0) and available >= wanted[line.product_id]
        for line in answer.shortages
        for version, available in [seen.get(line.product_id, (0, 0))]
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
