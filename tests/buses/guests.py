"""A broker with its HTTP door, in this process, to be asked as a program in any language asks."""

from __future__ import annotations

import asyncio
import contextlib
import io
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp

from mesh import tokens
from mesh.buses.zmq.broker import Broker
from mesh.buses.zmq.door import Door
from mesh.buses.zmq.hosted import Hosted
from mesh.buses.zmq.hosting import Host
from mesh.buses.zmq.log import Log
from tests.buses.support import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

GUESTS = frozenset({"labels", "mailer"})


@dataclass
class Answer:
    """One HTTP answer."""

    status: int
    headers: Any
    body: Any


@dataclass
class GuestBus:
    """The bus, and how to ask it. `as_` is whose token is shown."""

    url: str
    broker: Broker
    host: Host
    hosted: Hosted
    log: Log
    mint: tokens.Operator
    _session: aiohttp.ClientSession = field(repr=False)

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        as_: str | None = "labels",
        raw: bytes | None = None,
        audience: str = "bus",
        **headers: str,
    ) -> Answer:
        """One request; `Content_Type` means Content-Type."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if as_ is not None:
            sent["Authorization"] = f"Bearer {self.mint.token(as_, audience)}"
        given: dict[str, Any] = {"json": body} if raw is None and body is not None else {}
        if raw is not None:
            given = {"data": io.BytesIO(raw)}
            sent.setdefault("Content-Type", "application/json")
        async with self._session.request(method, self.url + path, headers=sent, **given) as found:
            content = await found.json(content_type=None) if found.content_length else None
            return Answer(found.status, found.headers, content)

    async def tell(self, kind: str, body: Any, *, as_: str = "labels", **headers: str) -> Answer:
        """Tell an event."""
        return await self.ask("POST", f"/events/{kind}", body, as_=as_, **headers)

    async def next(self, consumer: str = "labels", after: str = "", **query: Any) -> list[Any]:
        """The next events, once all that was told has reached the log."""
        await until(self._relayed, "the log does not get what was told")
        words = {"consumer": consumer, "after": after, "wait": 5, **query}
        text = "&".join(f"{name}={value}" for name, value in words.items())
        answer = await self.ask("GET", f"/events?{text}")
        assert answer.status == 200, answer
        return list(answer.body)

    def _relayed(self) -> bool:
        return all(
            self.broker.lineage(stream).head == self.hosted.state(stream).head
            for stream in self.hosted.streams
        )


@contextlib.asynccontextmanager
async def guest_bus(directory: Path) -> AsyncIterator[GuestBus]:
    """One life of the bus on this directory."""
    mint = tokens.provision(
        directory / "identity",
        project="shop",
        calls={**dict.fromkeys((*GUESTS, "order"), ()), "bus": ()},
    )
    log = Log(directory / "bus")
    broker = Broker(log, directory / "run")
    broker.start()
    hosted = Hosted(directory / "bus")
    host = Host(broker, log, hosted)
    keys = {name: tokens.public_key(key.public) for name, key in mint._keys.items()}
    door = Door(
        *(broker, host, hosted),
        lambda token: tokens.verify_peer(token, keys, aud="bus").iss,
        GUESTS,
    )
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    port = listener.getsockname()[1]
    runner = await door.serve(listener)
    async with aiohttp.ClientSession() as session:
        try:
            yield GuestBus(f"http://127.0.0.1:{port}", broker, host, hosted, log, mint, session)
        finally:
            await host.close()
            await runner.cleanup()
            hosted.close()
            await broker.close()
    await asyncio.sleep(0)
