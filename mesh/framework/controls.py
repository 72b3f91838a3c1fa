"""What the operator alone may ask of a program beside its operations: faults, copies of its file."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from mesh import codec
from mesh.errors import Conflict
from mesh.framework import faults, identity
from mesh.framework.reply import Reply
from mesh.framework.service import OPERATOR

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from mesh.database import Cut, Database
    from mesh.framework.app import App
    from mesh.framework.request import Request

T = TypeVar("T")


class Controls:
    """The operator's levers of one service."""

    def __init__(self, app: App, store: Database, copy_to: Path) -> None:
        """`app` tells who asks and reads bodies; a copy of `store` is left at `copy_to`."""
        self._app = app
        self._database = store
        self._copy_to = copy_to
        self._cut: Cut | None = None

    def table(self) -> dict[tuple[str, str], Callable[[Request], Awaitable[Reply]]]:
        """(method, path) → handler."""
        return {
            ("POST", "/faults"): self._inflict,
            ("DELETE", "/faults"): self._mend,
            ("POST", "/backup/hold"): self._hold,
            ("POST", "/backup/take"): self._take,
            ("POST", "/backup/copy"): self._copy,
        }

    async def _inflict(self, request: Request) -> Reply:
        self._app.faults.begin(await self._asked(request, faults.Inflict))
        return Reply(204, b"", {})

    async def _mend(self, request: Request) -> Reply:
        await self._admit(request)
        self._app.faults.end()
        return Reply(204, b"", {})

    async def _hold(self, request: Request) -> Reply:
        """Let the writer stand; a cut that nobody finished is given up."""
        await self._admit(request)
        await self.close()
        self._cut = await self._database.hold()
        return Reply(204, b"", {})

    async def _take(self, request: Request) -> Reply:
        await self._admit(request)
        await self._held().take()
        return Reply(204, b"", {})

    async def _copy(self, request: Request) -> Reply:
        await self._admit(request)
        try:
            size = await self._held().copy(self._copy_to)
        finally:
            await self.close()
        return Reply(200, codec.encode({"bytes": size}), {})

    def _held(self) -> Cut:
        if self._cut is None:
            raise Conflict("nothing is held", code="cut-missed")
        return self._cut

    async def close(self) -> None:
        """Let go of a cut that is under way. Idempotent."""
        if self._cut is not None:
            cut, self._cut = self._cut, None
            await cut.close()

    async def _admit(self, request: Request) -> None:
        identity.admit(await self._app.caller(request), OPERATOR)

    async def _asked(self, request: Request, shape: type[T]) -> T:
        await self._admit(request)
        return codec.convert(codec.read_json(await self._app.body(request)), shape)
