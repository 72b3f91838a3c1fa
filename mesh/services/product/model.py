"""Product's rules: pure functions, no await, no SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from mesh.errors import Conflict, Gone
from mesh.services.product.messages import HoldState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mesh.services.product.messages import (
        Line,
        ProductView,
        QuotedLine,
        UpdateProduct,
    )

HOLD_MS = 15 * 60 * 1000
"""How long stock is held for an order that has not been paid."""

OPEN = frozenset({"held", "committed"})
"""Hold states in which stock is reserved."""

Edge = Literal["out", "back", "low"]


class HoldRow(Struct, frozen=True):
    """A hold as it is stored."""

    order_id: str
    state: HoldState
    version: int
    expires_at_ms: int


def merged(lines: Sequence[Line]) -> dict[str, int]:
    """Quantity by product, in order of id: one line a product, and one order of locking."""
    wanted: dict[str, int] = {}
    for line in sorted(lines, key=lambda line: line.product_id):
        wanted[line.product_id] = wanted.get(line.product_id, 0) + line.quantity
    return wanted


def version_to_hold(found: HoldRow | None, same_lines: bool) -> int | None:  # noqa: FBT001  one fact
    """The version a new hold of this order gets; None when the present one answers the question.

    Raises: Gone (released or shipped: the order is over), Conflict (held with other lines).
    """
    if found is None:
        return 1
    if found.state in {"released", "shipped"}:
        raise Gone("this order's hold is over", code="hold-gone")
    if found.state == "expired":
        return found.version + 1
    if not same_lines:
        raise Conflict("this order holds other lines", code="hold-differs")
    return None


def shortages(lines: Sequence[QuotedLine]) -> list[dict[str, object]]:
    """The lines for which there is not enough, with what is missing."""
    return [
        {
            "product_id": line.product_id,
            "wanted": line.quantity,
            "available": line.available,
        }
        for line in lines
        if line.available < line.quantity
    ]


def edges(before: int, after: int, low_water: int) -> list[Edge]:
    """What a change of what is available amounts to for people; mostly nothing.

    A mark of 0 warns of nothing: that the last one has gone says it already.
    """
    found: list[Edge] = []
    if after == 0 < before:
        found.append("out")
    elif after <= low_water < before:
        found.append("low")
    if before == 0 < after:
        found.append("back")
    return found


def changes(before: ProductView, wanted: UpdateProduct) -> list[str]:
    """The members that would not be what they are."""
    pairs = {
        "name": (before.name, wanted.name),
        "description": (before.description, wanted.description),
        "price_minor": (before.price_minor, wanted.price_minor),
        "low_water": (before.low_water, wanted.low_water),
    }
    return [name for name, (old, new) in pairs.items() if new is not None and new != old]


def lacks(product: ProductView) -> str | None:
    """What this product waits for, in words."""
    if product.status == "discontinued" or product.available > product.low_water:
        return None
    if product.available == 0:
        return "a delivery: nothing is available"
    return f"a delivery: {product.available} left, its low-water mark is {product.low_water}"
