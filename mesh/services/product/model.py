"""Product's rules: pure functions, no await, no SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from mesh.errors import Conflict, Gone

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mesh.services.product.messages import Line, QuotedLine

HOLD_MS = 15 * 60 * 1000
"""How long stock is held for an order that has not been paid."""

HoldState = Literal["held", "committed", "released", "expired"]


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

    Raises: Gone (released: the order is over), Conflict (held with other lines).
    """
    if found is None:
        return 1
    if found.state == "released":
        raise Gone("this order's hold was released", code="hold-gone")
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
