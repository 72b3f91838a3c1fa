"""One step of an order: its row, its history, one event and the work that the move leaves, in one commit.

Every change of status passes here, and the table of moves decides what it may be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from msgspec import Struct
from msgspec.structs import replace

from mesh.errors import Broken, NotFound
from mesh.framework import iso
from mesh.services.order import messages, model, store
from mesh.services.order.messages import LineView
from mesh.services.order.store import OrderRow

if TYPE_CHECKING:
    from mesh.framework import Context, Reader, Tx
    from mesh.services.order.messages import OrderView


class Placed(Struct, frozen=True):
    """An order that is not written down yet, as its owner placed it."""

    order: OrderRow
    lines: list[LineView]


class Decided(Struct, frozen=True):
    """The move that an answer of product's leads to: the order before it, but for what was said of it."""

    order: OrderRow
    lines: list[LineView]
    cause: str
    reason: str


def begin(order_id: str, user_id: str, request: messages.PlaceOrder, now_ms: int) -> Placed:
    """A new order, its lines merged. Raises: InvalidInput for more of one product than is sold."""
    to = request.ship_to
    order = OrderRow(
        id=order_id,
        user_id=user_id,
        status=cast("messages.Status", model.move("", "create").target),
        reason="placed",
        on_shortage=request.on_shortage,
        expected_total_minor=request.expected_total_minor,
        created_ms=now_ms,
        version=1,
        name=to.name,
        line1=to.line1,
        line2=to.line2,
        city=to.city,
        region=to.region,
        postcode=to.postcode,
        country=to.country,
    )
    wanted = model.merged(request.lines)
    return Placed(order, [LineView(product, None, None, n, None) for product, n in wanted.items()])


def place(
    tx: Tx, placed: Placed, decided: Decided | None = None, *, actor: str = "order"
) -> OrderRow | None:
    """Write down a new order: its first step, and its second where that is known already.

    Returns: the order; None, nothing being done, where it is there already, its owner was erased,
        or its hold was lost.
    """
    first, owner = placed.order, f"user:{placed.order.user_id}"
    if decided is None:
        if not store.insert(tx, first, placed.lines):
            return None
        store.append_step(tx, first, "", owner)
        _tell(tx, first, "", first.reason, placed.lines)
        _leave(tx, first, model.move("", "create").defers)
        return first
    last, defers = _moved(decided.order, decided.cause, decided.reason)
    if not store.insert(tx, last, decided.lines):
        return None
    store.append_first_steps(tx, first, last, owner, actor)
    _tell(tx, first, "", first.reason, placed.lines)
    _tell(tx, last, first.status, last.reason, placed.lines)
    _leave(tx, last, defers)
    return last


def step(
    tx: Tx,
    order: OrderRow,
    cause: str,
    reason: str,
    *,
    actor: str,
    told: str | None = None,
    lines: list[LineView] | None = None,
) -> OrderRow:
    """Move an order that was read in this transaction, with whatever else of it has changed.

    Args:
        cause: of the table of moves.
        reason: for the order's owner and staff.
        told: the same for everybody, where `reason` is somebody's own words: events say nothing
            that may be about a person.
        lines: the order's, where they are at hand.

    Raises: Broken when the table has no such move, or the order was read earlier.
    """
    moved, defers = _moved(order, cause, reason)
    if not store.save(tx, moved):
        raise Broken(f"order {order.id} was not read in the transaction that moves it")
    store.append_step(tx, moved, order.status, actor)
    _tell(tx, moved, order.status, told or reason, lines or store.lines(tx, order.id))
    driver = model.DRIVEN_BY.get(order.status)
    if driver is not None:
        tx.undefer(driver, key=order.id)
    _leave(tx, moved, defers)
    return moved


def _moved(order: OrderRow, cause: str, reason: str) -> tuple[OrderRow, tuple[str, ...]]:
    """The order after this move, and the work that it leaves. Raises: Broken."""
    move = model.move(order.status, cause)
    status = cast("messages.Status", move.target)
    return replace(order, status=status, reason=reason, version=order.version + 1), move.defers


def _tell(tx: Tx, order: OrderRow, old: str, told: str, lines: list[LineView]) -> None:
    """Tell the step by which an order came to be as it is now."""
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
        if action == "expire":
            until_ms = order.held_until_ms or tx.now_ms
            if not store.is_looked_at(tx, until_ms):
                look_at(tx, until_ms)
            continue
        after_s = model.DRIVE_AFTER_S if action == model.DRIVEN_BY.get(order.status) else 0.0
        tx.defer(action, messages.Owed(order.id), key=order.id, after_s=after_s)


def look_at(tx: Tx, on_ms: int) -> None:
    """Look then for orders that are not paid; one such look waits as long as any order does."""
    tx.defer("expire", messages.Expire(), key="all", on_ms=on_ms)


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
