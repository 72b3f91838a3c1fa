"""One step of an order: its row, its history, one event and the work that the move leaves, in one commit.

Every change of status passes here, and the table of moves decides what it may be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from msgspec import Struct
from msgspec.structs import replace

from mesh.errors import Forbidden, NotFound
from mesh.framework import iso
from mesh.services.order import messages, model, store
from mesh.services.order.messages import LineView
from mesh.services.order.store import OrderRow

if TYPE_CHECKING:
    from mesh.framework import Context, Reader, Tx
    from mesh.services.order.messages import OrderView


class Placed(Struct, frozen=True):
    """An order as it was placed, in the hands of whoever placed it."""

    order: OrderRow
    lines: list[LineView]


class StaleError(Exception):
    """An order that was placed in an earlier transaction is no longer as it was then."""


def place(
    tx: Tx, order_id: str, user_id: str, request: messages.PlaceOrder, wanted: dict[str, int]
) -> Placed | None:
    """The first step; None when it was made before under the same key.

    Raises: Forbidden (`user-erased`): a token lives on for a moment.
    """
    move = model.move("", "create")
    to = request.ship_to
    order = OrderRow(
        id=order_id,
        user_id=user_id,
        status=cast("messages.Status", move.target),
        reason="placed",
        on_shortage=request.on_shortage,
        expected_total_minor=request.expected_total_minor,
        created_ms=tx.now_ms,
        version=1,
        name=to.name,
        line1=to.line1,
        line2=to.line2,
        city=to.city,
        region=to.region,
        postcode=to.postcode,
        country=to.country,
    )
    if not store.insert(tx, order, wanted):
        if store.is_erased(tx, user_id):
            raise Forbidden("this account was erased", code="user-erased")
        return None
    lines = [LineView(product_id, None, None, n, None) for product_id, n in wanted.items()]
    _note(tx, order, "", f"user:{user_id}", order.reason, lines)
    _leave(tx, order, move.defers)
    return Placed(order, lines)


def step(
    tx: Tx,
    order: OrderRow,
    cause: str,
    reason: str,
    *,
    actor: str,
    told: str | None = None,
    lines: list[LineView] | None = None,
    as_placed: bool = False,
) -> OrderRow:
    """Move an order, with whatever else of it has changed.

    Args:
        cause: of the table of moves.
        reason: for the order's owner and staff.
        told: the same for everybody, where `reason` is somebody's own words: events say nothing
            that may be about a person.
        lines: the order's, where they are at hand.
        as_placed: `order` was not read in this transaction but placed in an earlier one.

    Raises: Broken when the table has no such move; StaleError, nothing being done, when the order
        has changed since it was placed.
    """
    move = model.move(order.status, cause)
    moved = replace(
        order,
        status=cast("messages.Status", move.target),
        reason=reason,
        version=order.version + 1,
    )
    if not store.save(tx, moved, as_placed=as_placed):
        raise StaleError
    _note(tx, moved, order.status, actor, told or reason, lines or store.lines(tx, order.id))
    tx.undefer(*model.OF_A_STATUS, key=order.id)
    _leave(tx, moved, move.defers)
    return moved


def _note(tx: Tx, order: OrderRow, old: str, actor: str, told: str, lines: list[LineView]) -> None:
    """Write down and tell the step by which an order came to be as it is now."""
    store.append_step(tx, order, old, actor)
    tx.tell(
        messages.StatusChanged(
            order_id=order.id,
            user_id=order.user_id,
            old=old,
            new=order.status,
            version=order.version,
            reason=told,
            total_minor=order.total_minor,
            currency=order.currency,
            lines=[messages.ToldLine(line.product_id, line.quantity) for line in lines],
        )
    )


def _leave(tx: Tx, order: OrderRow, actions: tuple[str, ...]) -> None:
    """Leave the work of a move for after its commit."""
    for action in actions:
        after_s = model.DRIVE_AFTER_S if action in model.DRIVING else 0.0
        on_ms = order.held_until_ms if action == "expire" else None
        tx.defer(action, messages.Owed(order.id), key=order.id, after_s=after_s, on_ms=on_ms)


def present(reads: Reader | Tx, order_id: str) -> OrderRow:
    """The order. Raises: NotFound."""
    found = store.get(reads, order_id)
    if found is None:
        raise NotFound("there is no such order")
    return found


def visible(ctx: Context, order_id: str) -> OrderRow:
    """The order, for its owner, staff or the operator. Raises: NotFound, also for anybody else."""
    order = present(ctx.read, order_id)
    may_see_all = ctx.caller.has("staff") or ctx.caller.kind == "operator"
    if order.user_id != ctx.caller.id and not may_see_all:
        raise NotFound("there is no such order")
    return order


def own(ctx: Context, order_id: str) -> OrderRow:
    """The order, for its owner. Raises: NotFound, also for anybody else."""
    order = present(ctx.read, order_id)
    if order.user_id != ctx.caller.id:
        raise NotFound("there is no such order")
    return order


def view(reads: Reader | Tx, order_id: str) -> OrderView:
    """An order as answers show it."""
    return show(reads, present(reads, order_id))


def show(reads: Reader | Tx, order: OrderRow) -> OrderView:
    """The same of a row."""
    return shown(order, store.lines(reads, order.id))


def shown(order: OrderRow, lines: list[LineView]) -> OrderView:
    """The same of a row and its lines."""
    return messages.OrderView(
        id=order.id,
        user_id=order.user_id,
        status=order.status,
        reason=order.reason,
        lines=lines,
        ship_to=store.address(order),
        carrier=order.carrier,
        tracking=order.tracking,
        on_shortage=order.on_shortage,
        subtotal_minor=order.subtotal_minor,
        shipping_minor=order.shipping_minor,
        total_minor=order.total_minor,
        currency=order.currency,
        held_until=None if order.held_until_ms is None else iso(order.held_until_ms),
        created_at=iso(order.created_ms),
        version=order.version,
    )
