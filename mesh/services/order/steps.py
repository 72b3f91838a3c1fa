"""One step of an order: its row, its history, one event and the work that the move leaves, in one commit.

Every change of status passes here, and the table of moves decides what it may be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from msgspec.structs import replace

from mesh.errors import Broken, Forbidden, NotFound
from mesh.framework import iso
from mesh.services.order import messages, model, store

if TYPE_CHECKING:
    from mesh.framework import Context, Reader, Tx
    from mesh.services.order.messages import OrderView
    from mesh.services.order.store import OrderRow


def place(
    tx: Tx, order_id: str, user_id: str, request: messages.PlaceOrder, wanted: dict[str, int]
) -> bool:
    """The first step; False when it was made before under the same key.

    Raises: Forbidden (`user-erased`): a token lives on for a moment.
    """
    if store.is_erased(tx, user_id):
        raise Forbidden("this account was erased", code="user-erased")
    told = [messages.ToldLine(product_id, quantity) for product_id, quantity in wanted.items()]
    move = model.move("", "create")
    order = store.OrderRow(
        id=order_id,
        user_id=user_id,
        status=cast("messages.Status", move.target),
        reason="placed",
        on_shortage=request.on_shortage,
        expected_total_minor=request.expected_total_minor,
        created_ms=tx.now_ms,
        version=1,
    )
    if not store.insert(tx, order, wanted, request.ship_to):
        return False
    _note(tx, order, "", f"user:{user_id}", order.reason, told)
    _leave(tx, order, move.defers)
    return True


def step(
    tx: Tx,
    order: OrderRow,
    cause: str,
    reason: str,
    *,
    actor: str,
    told: str | None = None,
    lines: list[messages.LineView] | None = None,
) -> OrderRow:
    """Move an order, with whatever else of it has changed.

    Args:
        cause: of the table of moves.
        reason: for the order's owner and staff.
        told: the same for everybody, where `reason` is somebody's own words: events say nothing
            that may be about a person.
        lines: the order's, where they were read already.

    Raises: Broken when the table has no such move.
    """
    move = model.move(order.status, cause)
    moved = replace(
        order,
        status=cast("messages.Status", move.target),
        reason=reason,
        version=order.version + 1,
    )
    store.save(tx, moved)
    of_it = [
        messages.ToldLine(line.product_id, line.quantity)
        for line in lines or store.lines(tx, order.id)
    ]
    _note(tx, moved, order.status, actor, told or reason, of_it)
    tx.undefer(*model.OF_A_STATUS, key=order.id)
    _leave(tx, moved, move.defers)
    return moved


def _note(
    tx: Tx, order: OrderRow, old: str, actor: str, told: str, lines: list[messages.ToldLine]
) -> None:
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
            lines=lines,
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
    shipment = store.shipment(reads, order.id)
    if shipment is None:
        raise Broken(f"order {order.id} has no shipment")
    return messages.OrderView(
        id=order.id,
        user_id=order.user_id,
        status=order.status,
        reason=order.reason,
        lines=store.lines(reads, order.id),
        ship_to=store.address(shipment),
        carrier=shipment.carrier,
        tracking=shipment.tracking,
        on_shortage=order.on_shortage,
        subtotal_minor=order.subtotal_minor,
        shipping_minor=order.shipping_minor,
        total_minor=order.total_minor,
        currency=order.currency,
        held_until=None if order.held_until_ms is None else iso(order.held_until_ms),
        created_at=iso(order.created_ms),
        version=order.version,
    )
