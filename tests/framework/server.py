"""A service of the tests' own behind the real HTTP door: real sockets, database and tokens."""

from __future__ import annotations

import asyncio
import contextlib
import io
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import aiohttp
from aiohttp import web
from msgspec import Meta, Struct
from multidict import CIMultiDict

from mesh import bus, clock, codec, tokens
from mesh.client import Client
from mesh.framework import (
    ANYONE,
    Operation,
    Service,
    check_match,
    drain,
    identity,
    roles,
    services,
)
from mesh.framework.app import App
from mesh.framework.deferred import DeferredWork
from mesh.framework.identity import Identity, KeySet, keep_keys
from mesh.framework.inbox import ServiceInbox
from mesh.framework.metrics import Metrics
from mesh.framework.outbox import ServiceOutbox
from mesh.framework.pages import Pages
from mesh.framework.traffic import Traffic
from tests.services.in_process import PATIENCE, PROJECT, Room, room

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from mesh.framework import Context
    from mesh.framework.connections import Connections

CALLS = {
    "auth": (),
    "user": ("auth", "shelf"),
    "order": ("shelf", "auth"),
    "stranger": ("auth",),
    "shelf": ("auth",),
}


class Get(Struct, frozen=True, forbid_unknown_fields=True):
    id: str
    depth: Annotated[int, Meta(ge=0, le=9)] = 1
    verbose: bool = False


class Thing(Struct, frozen=True):
    id: str
    depth: int = 1
    verbose: bool = False
    version: int = 1


class Make(Struct, frozen=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(min_length=1, max_length=40)]
    quantity: Annotated[int, Meta(ge=1, le=10)] = 1
    tags: tuple[str, ...] = ()


class Made(Struct, frozen=True):
    id: str
    name: str


class Rename(Struct, frozen=True, forbid_unknown_fields=True):
    id: str
    name: str


class Label(Struct, frozen=True, forbid_unknown_fields=True):
    id: str
    title: str


class Labels(Struct, frozen=True):
    count: int


class Nothing(Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Origin(Struct, frozen=True):
    caller: str
    cause: str
    left_ms: int
    source: str


class Shelf:
    """The actions, and what they were seen to do."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.removed: list[str] = []
        self.titles: list[str] = []
        self.labels = 1
        self.slow_begun = 0
        self.gate = asyncio.Event()
        self.entered = asyncio.Event()
        self.service = Service(name="shelf", summary="Things on a shelf.", operations=self._rows())

    def _rows(self):
        thing, make = Get("a"), Make("lamp")
        return (
            Operation("get", "GET /things/{id}", self.get, Get, Thing, allow=ANYONE, example=thing),
            Operation(
                "make",
                "POST /things",
                self.make,
                Make,
                Made,
                allow=roles("user"),
                example=make,
                status=201,
                key="required",
            ),
            Operation(
                "make-openly",
                "POST /open-things",
                self.make,
                Make,
                Made,
                allow=ANYONE,
                example=make,
                status=201,
                key="optional",
            ),
            Operation(
                "rename",
                "PUT /things/{id}",
                self.rename,
                Rename,
                Made,
                allow=services("order"),
                example=Rename("a", "b"),
            ),
            Operation(
                "remove",
                "DELETE /things/{id}",
                self.remove,
                Get,
                type(None),
                allow=ANYONE,
                example=thing,
                status=204,
            ),
            Operation(
                "labels", "GET /labels", self.list, Nothing, Labels, allow=ANYONE, example=Nothing()
            ),
            Operation(
                "label",
                "PATCH /labels/{id}",
                self.label,
                Label,
                Thing,
                allow=ANYONE,
                example=Label("a", "b"),
                match=True,
            ),
            Operation(
                "boom", "GET /boom", self.boom, Nothing, Thing, allow=ANYONE, example=Nothing()
            ),
            Operation(
                "origin",
                "GET /origin",
                self.origin,
                Nothing,
                Origin,
                allow=ANYONE,
                example=Nothing(),
            ),
            Operation(
                "slow",
                "POST /slow-things",
                self.slow,
                Make,
                Made,
                allow=ANYONE,
                example=make,
                status=201,
                key="optional",
            ),
        )

    async def get(self, ctx: Context, request: Get) -> Thing:
        return Thing(request.id, request.depth, request.verbose)

    async def make(self, ctx: Context, request: Make) -> Made:
        made = Made(ctx.entity_id("thg"), request.name)
        self.made.append(made.id)
        ctx.status = 201
        return await ctx.conclude(lambda tx: made)

    async def rename(self, ctx: Context, request: Rename) -> Made:
        return Made(request.id, request.name)

    async def remove(self, ctx: Context, request: Get) -> None:
        self.removed.append(request.id)

    async def list(self, ctx: Context, request: Nothing) -> Labels:
        return Labels(self.labels)

    async def label(self, ctx: Context, request: Label) -> Thing:
        check_match(ctx.match, 1)
        self.titles.append(request.title)
        return Thing(request.id, version=2)

    async def boom(self, ctx: Context, request: Nothing) -> Thing:
        msg = "the password is hunter2"
        raise RuntimeError(msg)

    async def origin(self, ctx: Context, request: Nothing) -> Origin:
        left_s = ctx.deadline_s - clock.monotonic_s()
        return Origin(ctx.caller.subject, ctx.cause, int(left_s * 1000), ctx.source)

    async def slow(self, ctx: Context, request: Make) -> Made:
        self.slow_begun += 1
        self.entered.set()
        await self.gate.wait()
        return await self.make(ctx, request)


@dataclass(frozen=True)
class Answer:
    """What came over the wire."""

    status: int
    headers: Mapping[str, str]
    raw: bytes

    @property
    def json(self) -> dict[str, object]:
        return codec.decode(self.raw, dict[str, object])


class Server:
    """One service being served."""

    def __init__(
        self, place: Room, who: Identity, operator: tokens.Operator, issuer: tokens.SigningKey
    ) -> None:
        self.room = place
        self.who = who
        self.operator = operator
        self.issuer = issuer
        self.shelf: Shelf
        self.app: App
        self.pages: Pages
        self.everybody: Connections
        self.fatal: list[BaseException] = []
        self.port = 0
        self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def user(self, name: str = "usr_alice", *held: str) -> dict[str, str]:
        """Headers of a logged-in user."""
        now_s = clock.now_ms() // 1000
        claims = tokens.Claims(
            "auth", name, PROJECT, now_s, now_s + 300, "ses_1", held or ("customer",)
        )
        return _bearer(tokens.sign(self.issuer, claims, typ=tokens.USER_TOKEN))

    def peer(self, name: str) -> dict[str, str]:
        """Headers of a service, or of `operator`."""
        return _bearer(self.operator.token(name, self.who.service))

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: dict[str, str] | None = None,
        *,
        data: object = None,
    ) -> Answer:
        """One request; `body` is sent as JSON, `data` as it stands."""
        sent = dict(headers or {})
        if body is not None:
            data = codec.encode(body)
        if isinstance(data, bytes):
            data = io.BytesIO(data)  # aiohttp warns of large bytes sent as they are
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        async with self._session.request(
            method, self.url + path, data=data, headers=sent, allow_redirects=False
        ) as response:
            return Answer(response.status, response.headers.copy(), await response.read())

    async def raw(self, sent: bytes, *, come_from: str = "127.0.0.1") -> Answer:
        """Exactly these bytes, and the answer; the connection is closed from there."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, local_addr=(come_from, 0)
        )
        try:
            writer.write(sent)
            async with asyncio.timeout(60):
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.decode("latin-1").split("\r\n")
                headers = CIMultiDict(line.split(": ", 1) for line in lines[1:] if line)
                raw = await reader.readexactly(int(headers.get("Content-Length", "0")))
            return Answer(int(lines[0].split(" ")[1]), headers, raw)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def close(self) -> None:
        await self._session.close()


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@contextlib.asynccontextmanager
async def listening(handler) -> AsyncIterator[int]:
    """A low-level HTTP server on a loopback port, for a handler."""
    server = web.Server(handler, access_log=None)
    runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=0.2)
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    await web.SockSite(runner, listener).start()
    try:
        yield listener.getsockname()[1]
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def behind(door: drain.Server) -> AsyncIterator[int]:
    """The loopback port on which a service's door stands open."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    door.listen(listener)
    try:
        yield listener.getsockname()[1]
    finally:
        await door.end(0.2)


def identity_of(directory: Path, name: str) -> Identity:
    """The identity that `provision` wrote for a service."""
    content = (directory / f"{name}.json").read_bytes()
    return Identity(name, codec.decode(content, tokens.IdentityFile))


@contextlib.asynccontextmanager
async def served(directory: Path) -> AsyncIterator[Server]:
    """The shelf behind its door, with auth's key set already known."""
    shelf = Shelf()
    operator = tokens.provision(directory / "identity", project=PROJECT, calls=CALLS)
    who = identity_of(directory / "identity", "shelf")
    issuer = tokens.new_key()
    async with room(shelf.service, directory) as place:
        server = Server(place, who, operator, issuer)
        server.shelf = shelf
        client = Client({}, who.token)
        await place.transact(keep_keys, KeySet((tokens.jwk(issuer.kid, issuer.public),)))
        who.attach(client, place.database)
        wires = place.wires
        inbox = ServiceInbox(place.database, wires.vocabulary, ())
        await inbox.prepare()
        work = DeferredWork(place.database, (), lambda *_: None)
        wire = bus.connect(f"zmq://{directory}/bus", name="shelf")
        metrics = Metrics()
        outbox = ServiceOutbox(place.database, "shelf")
        pages = Pages(shelf.service, who, place.database, outbox, inbox, work, wire, metrics)
        app = App(shelf.service, wires, who, metrics, pages.table(), server.fatal.append, PATIENCE)
        pages.app = app
        app.controls = pages.controls()
        pages.ready = True
        server.app, server.pages = app, pages
        try:
            door = drain.Server(app)
            server.everybody = door.everybody
            pages.traffic = Traffic(shelf.service, client, app.gate.admission, door.everybody, work)
            metrics.also(pages.traffic)
            async with behind(door) as server.port:
                try:
                    yield server
                finally:
                    shelf.gate.set()
                    await server.close()
        finally:
            await wire.close()
            await client.close()


__all__ = ["CALLS", "PROJECT", "Server", "behind", "identity", "identity_of", "listening", "served"]
