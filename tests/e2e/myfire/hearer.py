"""Hears numbers, and counts how often it has heard each."""

from __future__ import annotations

from msgspec import Struct

from mesh.framework import ANYONE, Context, Listener, Operation, Service, Tx


class NumberTold(Struct, frozen=True):
    """What is read of `teller.number_told`."""

    number: int


class Nothing(Struct, frozen=True, forbid_unknown_fields=True):
    """No members."""


class Heard(Struct, frozen=True):
    """The greatest number heard."""

    greatest: int


async def last(ctx: Context, request: Nothing) -> Heard:
    """Say how far it has come."""
    greatest = ctx.read.one(int, "SELECT n FROM heard ORDER BY n DESC LIMIT 1") or 0
    return Heard(greatest)


def on_number_told(tx: Tx, event: NumberTold) -> None:
    """Count it."""
    tx.execute(
        "INSERT INTO heard (n, times) VALUES (:n, 1)"
        " ON CONFLICT (n) DO UPDATE SET times = times + 1",
        n=event.number,
    )


service = Service(
    name="hearer",
    summary="Hears numbers.",
    operations=(
        Operation("last", "GET /last", last, Nothing, Heard, allow=ANYONE, example=Nothing()),
    ),
    listeners=(Listener("teller.number_told", on_number_told, NumberTold),),
)
