"""Tells numbers, each once: asked to tell up to n, it tells what is missing, in one commit."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from mesh.framework import ANYONE, Context, Operation, Service, Tells, Tx

AT_ONCE_MAX = 500


class UpTo(Struct, frozen=True, forbid_unknown_fields=True):
    """How far to tell."""

    n: Annotated[int, Meta(ge=0)]


class Told(Struct, frozen=True):
    """How far it has told."""

    n: int


class NumberTold(Struct, frozen=True):
    """`teller.number_told`."""

    number: int
    filling: str = "x" * 300


async def tell(ctx: Context, request: UpTo) -> Told:
    """Tell every number up to `n` that was not told yet."""
    return await ctx.write(_tell, request.n)


def _tell(tx: Tx, upto: int) -> Told:
    done = tx.one(int, "SELECT n FROM told") or 0
    upto = min(upto, done + AT_ONCE_MAX)
    for number in range(done + 1, upto + 1):
        tx.tell(NumberTold(number))
    tx.execute("UPDATE told SET n = :n", n=max(upto, done))
    return Told(max(upto, done))


service = Service(
    name="teller",
    summary="Tells numbers.",
    operations=(Operation("tell", "POST /told", tell, UpTo, Told, allow=ANYONE, example=UpTo(1)),),
    tells=(Tells("teller.number_told", NumberTold, key="number"),),
)
