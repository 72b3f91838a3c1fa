"""Order, broken: it tells in a commit of its own, after the one that made the change."""

from __future__ import annotations

from dataclasses import replace

from mesh.services.order import steps
from mesh.services.order.service import service as sound

LATE_S = 0.5
"""The window in which a kill loses events: so long that every kill meets some."""

untold: list[object] = []


class Mute:
    """A transaction that tells nothing itself: what was to be told is left for later."""

    def __init__(self, tx) -> None:
        self._tx = tx

    def __getattr__(self, name: str):
        return getattr(self._tx, name)

    def tell(self, data: object) -> None:
        self._tx.after_commit(lambda: untold.append(data))


told = steps._tell


def _mute(tx, *rest) -> None:
    told(Mute(tx), *rest)


steps._tell = _mute


def _tell(tx, data: object) -> None:
    tx.tell(data)


def late(action):
    """The action, and then what it has to tell."""

    async def act(ctx, request):
        answer = await action(ctx, request)
        mine = [*untold]
        untold.clear()
        await ctx.sleep(LATE_S)
        for data in mine:
            await ctx.write(_tell, data)
        return answer

    act.__doc__ = action.__doc__
    return act


service = replace(
    sound,
    operations=tuple(replace(row, action=late(row.action)) for row in sound.operations),
    deferred=tuple(replace(row, action=late(row.action)) for row in sound.deferred),
)
