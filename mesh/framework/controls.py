"""What the operator alone may ask of a program beside its operations: faults, copies of its file."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from aiohttp import web

from mesh import codec
from mesh.framework import faults, identity
from mesh.framework.service import OPERATOR

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mesh.framework.app import App

T = TypeVar("T")


class Controls:
    """The operator's levers of one service."""

    def __init__(self, app: App) -> None:
        """`app` tells who asks and reads bodies."""
        self._app = app

    def table(self) -> dict[tuple[str, str], Callable[[web.BaseRequest], Awaitable[web.Response]]]:
        """(method, path) → handler."""
        return {
            ("POST", "/faults"): self._inflict,
            ("DELETE", "/faults"): self._mend,
        }

    async def _inflict(self, request: web.BaseRequest) -> web.Response:
        self._app.faults.begin(await self._asked(request, faults.Inflict))
        return web.Response(status=204)

    async def _mend(self, request: web.BaseRequest) -> web.Response:
        await self._admit(request)
        self._app.faults.end()
        return web.Response(status=204)

    async def _admit(self, request: web.BaseRequest) -> None:
        identity.admit(await self._app.caller(request), OPERATOR)

    async def _asked(self, request: web.BaseRequest, shape: type[T]) -> T:
        await self._admit(request)
        return codec.convert(codec.read_json(await self._app.body(request)), shape)
