"""A service that repeats, wherever a service can: in its log, its errors and what it says of itself."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from msgspec import Struct

from mesh.framework import ANYONE, Context, Listener, Operation, Service, Tx

SAID: list[str] = json.loads(Path("payloads.json").read_text("ascii"))
FATAL = 77
SHORT = "".join(text[:40] for text in SAID)


class Word(Struct, frozen=True):
    """A word."""

    text: str


class StockChanged(Struct, frozen=True):
    """What is read of `product.stock_changed`."""

    d_on_hand: int


async def say(_: Context, word: Word) -> Word:
    """Say it again."""
    return word


def on_stock_changed(_: Tx, event: StockChanged) -> None:
    """Fail over one event, with everything in the error's text."""
    if event.d_on_hand == FATAL:
        raise ValueError(SHORT)


for line in SAID if "MESH_NOTIFY_FD" in os.environ else ():  # not where only its table is read
    sys.stdout.buffer.write(line.encode("utf-8", "surrogatepass") + b"\n")
sys.stdout.flush()

service = Service(
    name="echo",
    summary=SHORT[:200].encode("utf-8", "replace").decode(),
    operations=(
        Operation(
            "say", "POST /words", say, Word, Word, allow=ANYONE, example=Word("\x1b[2J\u202e")
        ),
    ),
    listeners=(Listener("product.stock_changed", on_stock_changed, StockChanged),),
)
