"""What was taken and given back, and what is being taken: SQL and nothing but SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from mesh.framework import Reader, Tx
    from mesh.services.order.model import Charge
    from mesh.services.order.store import OrderRow

PAYMENTS_MAX = 10
"""More than one order can have."""


class PaymentRow(Struct, frozen=True):
    """One payment."""

    id: str
    attempt: str
    amount_minor: int
    state: str
    token: str | None


class MoneyRow(Struct, frozen=True):
    """One payment or refund, as it is explained."""

    id: str
    kind: str
    state: str
    amount_minor: int
    brand: str | None
    last4: str | None
    at_ms: int


def start_capture(tx: Tx, payment_id: str, order: OrderRow, attempt: str, token: str) -> None:
    """Note that a payment is about to be taken."""
    tx.execute(
        "INSERT INTO payments (id, order_id, kind, attempt, amount_minor, state, token, at_ms)"
        " VALUES (:id, :order_id, 'capture', :attempt, :amount, 'started', :token, :now)",
        id=payment_id,
        order_id=order.id,
        attempt=attempt,
        amount=order.total_minor,
        token=token,
        now=tx.now_ms,
    )


def open_capture(reads: Reader | Tx, order_id: str) -> PaymentRow | None:
    """The payment that is being taken."""
    return reads.one(
        PaymentRow,
        "SELECT id, attempt, amount_minor, state, token FROM payments"
        " WHERE order_id = :id AND kind = 'capture' AND state = 'started'",
        id=order_id,
    )


def captures(reads: Reader | Tx, order_id: str) -> int:
    """How many payments were tried."""
    sql = "SELECT count(*) FROM payments WHERE order_id = :id AND kind = 'capture'"
    return reads.one(int, sql, id=order_id) or 0


def end_capture(tx: Tx, payment_id: str, state: str, charge: Charge | None) -> None:
    """Note how a payment ended."""
    tx.execute(
        "UPDATE payments SET state = :state, brand = :brand, last4 = :last4 WHERE id = :id",
        id=payment_id,
        state=state,
        brand=charge.brand if charge else None,
        last4=charge.last4 if charge else None,
    )


def abandon_capture(tx: Tx, order_id: str) -> None:
    """The payment that is being taken, if there is one, is not taken any more."""
    payment = open_capture(tx, order_id)
    if payment is not None:
        end_capture(tx, payment.id, "abandoned", None)


def money(reads: Reader, order_id: str) -> list[MoneyRow]:
    """Every payment and refund of an order, the first one first."""
    return reads.all(
        MoneyRow,
        "SELECT id, kind, state, amount_minor, brand, last4, at_ms FROM payments"
        " WHERE order_id = :id ORDER BY id LIMIT :most",
        id=order_id,
        most=PAYMENTS_MAX,
    )


def refund(tx: Tx, order_id: str) -> int:
    """Give back what was captured, once; returns how many rows that made."""
    return tx.execute(
        "INSERT INTO payments (id, order_id, kind, attempt, amount_minor, state, brand, last4,"
        " at_ms) SELECT :id, order_id, 'refund', :attempt, amount_minor, 'succeeded', brand, last4,"
        " :now FROM payments WHERE order_id = :order_id AND kind = 'capture'"
        " AND state = 'succeeded' ON CONFLICT DO NOTHING",
        id=tx.new_id("pay"),
        order_id=order_id,
        attempt=f"{order_id}/refund",
        now=tx.now_ms,
    )
