"""The tracker, broken: its cursor is committed first and the effect follows in a commit of its own."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from broken.tracked.tracker import StatusChanged
from broken.tracked.tracker import on_status_changed as count
from broken.tracked.tracker import service as sound
from msgspec import Struct

from mesh.framework import Context, Deferred, Listener, Tx

if TYPE_CHECKING:
    from collections.abc import Callable

LATE_S = 0.5
"""The window in which a kill loses effects: so long that every kill meets some."""

write: list[Callable] = []


class Nothing(Struct, frozen=True):
    """No members."""


async def remember(ctx: Context, request: Nothing) -> None:
    """Keep what later effects are written with."""
    write.append(ctx.write)


def on_status_changed(tx: Tx, event: StatusChanged) -> None:
    """Have it counted a moment after the cursor has moved."""
    if not write:
        tx.defer("remember", Nothing(), key="once")
        count(tx, event)
        return
    tx.after_commit(
        lambda: asyncio.get_running_loop().call_later(
            LATE_S, lambda: asyncio.ensure_future(write[-1](count, event))
        )
    )


service = replace(
    sound,
    listeners=(Listener("order.status_changed", on_status_changed, StatusChanged),),
    deferred=(Deferred("remember", remember, Nothing),),
)
